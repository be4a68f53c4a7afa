import { once } from 'node:events'
import { Server } from 'node:net'
import { setTimeout as sleep } from 'node:timers/promises'
import fp from 'fastify-plugin'

/** How long a connection without a request is left to its client once listening has stopped, in milliseconds. */
const idleMs = 2000
/** Longest wait for the last answers, in milliseconds. */
const answersMs = 8000

declare module 'fastify' {
  interface FastifyInstance {
    isDraining: () => boolean
    /**
     * Takes requests for `seconds` more, or until `haste`, while readiness says 503 and every answer ends its connection;
     * then stops listening and resolves once the connections are gone, after ten seconds at the latest.
     */
    drain: (seconds: number, haste: AbortSignal) => Promise<void>
  }
}

/** Goes down without losing a request: app.close() alone refuses connections while a gateway still sends them. */
export default fp(async (app) => {
  let isDraining = false
  app.decorate('isDraining', () => isDraining)

  // A request that was there before the drain is answered with it, too.
  app.addHook('onSend', (_request, reply, _payload, done) => {
    if (isDraining) reply.header('connection', 'close')
    done()
  })

  app.decorate('drain', async (seconds: number, haste: AbortSignal) => {
    const pause = (ms: number) => sleep(ms, undefined, { signal: haste }).catch(() => undefined)
    isDraining = true
    // What Fastify answers to a path that it cannot read passes no hook.
    app.server.prependListener('request', (_request, response) => { response.shouldKeepAlive = false })
    await pause(seconds * 1000)
    const closed = once(app.server, 'close')
    // Not that of an HTTP server, which cuts idle connections: on one of them a request may just be coming in.
    Server.prototype.close.call(app.server)
    await Promise.race([closed, pause(idleMs)])
    app.server.closeIdleConnections()
    await Promise.race([closed, sleep(answersMs)])
  })
}, { name: 'drain' })
