import type { FastifyInstance, FastifyRequest } from 'fastify'
import { Gauge } from 'prom-client'
import { Problem } from '../http/problems.js'

/**
 * Most requests that a process works on at once. A core serves more than that in a second, so more in flight means a
 * slow or unavailable dependency: their clients would stop waiting before the response.
 */
export const maxInFlight = 2000

/**
 * Refuses requests to the routes of `scope` with 503 while too many are in flight. A request counts during its hooks
 * and its handler, also after its client has disconnected. It does not count while it waits for its body or for a
 * client that does not read the response. A handler must send or return a payload: after a client has disconnected,
 * Fastify does not send `undefined`, so onSend would not run.
 */
export function shedLoad (scope: FastifyInstance) {
  const inFlight = new Set<FastifyRequest>()
  const enter = (request: FastifyRequest, _reply: unknown, done: (error?: Error) => void) => {
    inFlight.add(request)
    done(inFlight.size > maxInFlight ? new Problem('unavailable') : undefined)
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
    help: 'Requests in flight, without probes',
    registers: [],
    collect () { this.set(inFlight.size) }
  }))
}
