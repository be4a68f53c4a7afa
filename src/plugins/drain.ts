import { once } from 'node:events'
import { Server } from 'node:net'
import { setImmediate as turn, setTimeout as sleep } from 'node:timers/promises'
import fp from 'fastify-plugin'

/** Longest wait for a turn of the event loop in which no connection comes, in milliseconds. */
const acceptMs = 1000
/** How long an idle connection stays open for its client after listening has stopped, in milliseconds. */
const idleMs = 2000
/** Longest wait for the last responses, in milliseconds. */
const responsesMs = 8000

declare module 'fastify' {
  interface FastifyInstance {
    isDraining: () => boolean
    /**
     * Accepts requests for `seconds` more, or until `abort`. Meanwhile readiness is 503 and every response closes its
     * connection. Then stops listening and resolves when all connections are closed, ten seconds later at the latest.
     */
    drain: (seconds: number, abort: AbortSignal) => Promise<void>
  }
}

/** Stops without losing a request: app.close() alone refuses connections while a gateway still sends them. */
export default fp(async (app) => {
  let isDraining = false
  /** Requests that wait until listening has stopped: a response makes its client open the next connection. */
  let held: Array<() => void> | undefined
  let accepted = 0
  app.server.on('connection', () => { accepted++ })

  /**
   * Stops listening after a turn of the event loop in which no connection came. The kernel resets connections that
   * still wait to be accepted, and a gateway may have sent a request on them.
   */
  async function stopListening () {
    const end = performance.now() + acceptMs
    let before
    // An abort ends the wait in the middle of a turn, when connections may wait already.
    await turn()
    do {
      before = accepted
      await turn()
    } while (accepted > before && performance.now() < end)
    // The close of an HTTP server would also cut idle connections, on which a request may be arriving.
    Server.prototype.close.call(app.server)
  }

  app.decorate('isDraining', () => isDraining)
  app.addHook('onRequest', (_request, _reply, done) => {
    if (held) held.push(done)
    else done()
  })

  // Also on requests that came before the drain.
  app.addHook('onSend', (_request, reply, _payload, done) => {
    if (isDraining) reply.header('connection', 'close')
    done()
  })

  app.decorate('drain', async (seconds: number, abort: AbortSignal) => {
    const pause = (ms: number) => sleep(ms, undefined, { signal: abort }).catch(() => undefined)
    isDraining = true
    // Fastify's response to a path that it cannot decode passes no hook.
    app.server.prependListener('request', (_request, response) => { response.shouldKeepAlive = false })
    await pause(seconds * 1000)
    held = []
    const closed = once(app.server, 'close')
    await stopListening()
    for (const proceed of held) proceed()
    held = undefined
    await Promise.race([closed, pause(idleMs)])
    app.server.closeIdleConnections()
    await Promise.race([closed, sleep(responsesMs)])
  })
}, { name: 'drain' })
