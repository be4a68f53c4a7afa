import type { FastifyInstance } from 'fastify'
import { Gauge } from 'prom-client'
import { problem } from '../errors.js'

/**
 * Requests that a process works on at once. A core answers more than that in a second: whoever comes on top of them would
 * wait in a queue for a dependency that is slow or away, and be answered when nobody waits any more.
 */
export const maxInFlight = 2000

/** Answers 503 at once to what comes to the routes of `scope` while too many of their requests are in flight. */
export function shedLoad (scope: FastifyInstance) {
  let inFlight = 0
  const release = () => { inFlight-- }
  scope.addHook('onRequest', (_request, { raw }, done) => {
    // One that waits behind another one of its connection does not count: Node does not tell when its client goes away.
    if (raw.socket === null) return done()
    inFlight++
    // Fastify's onResponse does not run where the client has gone.
    raw.on('close', release)
    done(inFlight > maxInFlight ? problem('unavailable') : undefined)
  })
  scope.metrics.registerMetric(new Gauge({
    name: 'phone_auth_http_requests_in_flight',
    help: 'Requests that are worked on, probes left out',
    registers: [],
    collect () { this.set(inFlight) }
  }))
}
