import type { IncomingMessage } from 'node:http'
import type { FastifyInstance } from 'fastify'
import { Gauge } from 'prom-client'
import { Problem } from '../http/problems.js'

/** Longest time that a body may take to arrive (CONTRACT, section 4). */
const bodyTimeoutMs = 5000
/** Shortest time between two sweeps, each of which ends all overdue bodies. */
const sweepMs = 50
/**
 * Most bodies that a process waits for at once, 16 MiB in all. A body that arrives with its head is never among them.
 */
const maxUnfinished = 1000

export type UnfinishedBodies = ReturnType<typeof unfinishedBodies>

/**
 * The bodies that a process waits for, each for at most five seconds. Beyond the limit the wait for the oldest body
 * ends, not for the newest: a client that sends many slow bodies ends its own, not those that arrive quickly.
 */
export function unfinishedBodies () {
  /** When the wait for each body began, the oldest first. */
  const began = new Map<IncomingMessage, number>()
  let timer: NodeJS.Timeout | undefined

  /** Ends the wait. A reader of the body gets the error and responds. Without a reader the response is already sent. */
  function end (request: IncomingMessage) {
    began.delete(request)
    if (request.listenerCount('error') > 0) request.emit('error', new Problem('request_timeout'))
    else request.socket.destroy()
  }

  function sweep () {
    const now = performance.now()
    timer = undefined
    for (const [request, start] of began) {
      if (now - start < bodyTimeoutMs) return schedule(start + bodyTimeoutMs - now)
      end(request)
    }
  }

  /** After a stall Node runs timers before it reads the sockets, so the sweep waits until Node has read them. */
  function schedule (ms: number) {
    timer ??= setTimeout(() => setImmediate(sweep), Math.max(ms, sweepMs)).unref()
  }

  return {
    /** Starts to wait for the rest of a body. */
    add (request: IncomingMessage) {
      const [oldest] = began.size >= maxUnfinished ? began.keys() : []
      if (oldest) end(oldest)
      began.set(request, performance.now())
      schedule(bodyTimeoutMs)
    },
    /** Stops waiting: the body has arrived or is not needed any more. */
    delete: (request: IncomingMessage) => { began.delete(request) },
    get size () { return began.size }
  }
}

const hasBody = ({ headers }: IncomingMessage) =>
  headers['transfer-encoding'] !== undefined || Number(headers['content-length']) > 0

/**
 * Limits the wait for the bodies that the routes of `app` read. A body that arrives during the onRequest hooks is free.
 */
export function boundBodies (app: FastifyInstance, bodies: UnfinishedBodies) {
  app.addHook('preParsing', ({ raw }, _reply, _payload, done) => {
    if (!raw.complete && hasBody(raw)) bodies.add(raw)
    done()
  })
  app.addHook('preValidation', ({ raw }, _reply, done) => {
    bodies.delete(raw)
    done()
  })
  // A body that cannot be parsed never reaches preValidation.
  app.addHook('onSend', ({ raw }, _reply, _payload, done) => {
    bodies.delete(raw)
    done()
  })
  app.metrics.registerMetric(new Gauge({
    name: 'phone_auth_http_unfinished_bodies',
    help: 'Bodies that have not arrived yet',
    registers: [],
    collect () { this.set(bodies.size) }
  }))
}
