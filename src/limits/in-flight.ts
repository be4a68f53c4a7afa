import type { FastifyInstance, FastifyRequest } from 'fastify'
import { Gauge } from 'prom-client'
import { problem } from '../http/problems.js'

/**
 * Requests that a process works on at once. A core answers more than that in a second: further ones would queue for a slow or
 * unavailable dependency and get their response when nobody waits for it any more.
 */
export const maxInFlight = 2000

/**
 * Refuses requests to the routes of `scope` with 503 while too many are in flight. Hooks and handlers count, also those whose
 * client has gone; the wait for a body or for a client that does not read its response does not. A handler must send, or
 * resolve with, a payload: for a client that has gone, Fastify sends no `undefined`, so onSend would not run.
 */
export function shedLoad (scope: FastifyInstance) {
  const inFlight = new Set<FastifyRequest>()
  const enter = (request: FastifyRequest, _reply: unknown, done: (error?: Error) => void) => {
    inFlight.add(request)
    done(inFlight.size > maxInFlight ? problem('unavailable') : undefined)
  }
  const leave = (request: FastifyRequest, _reply: unknown, _payload: unknown, done: () => void) => {
    inFlight.delete(request)
    done()
  }
  scope.addHook('onRequest', enter)
  scope.addHook('preParsing', leave)
  scope.addHook('preValidation', enter)
  scope.addHook('onSend', leave)
  scope.metrics.registerMetric(new Gauge({
    name: 'phone_auth_http_requests_in_flight',
    help: 'Requests that are worked on, probes left out',
    registers: [],
    collect () { this.set(inFlight.size) }
  }))
}
