import { once } from 'node:events'
import { Server } from 'node:net'
import { setTimeout as sleep } from 'node:timers/promises'
import fp from 'fastify-plugin'

/**
 * The longest search for a quiet turn of the event loop, the longest duration of such a turn, and the pause before each
 * attempt, in milliseconds.
 */
const acceptMs = 1000
const quietMs = 0.05
const pauseMs = 1
/** How long idle connections stay open for their clients after listening has stopped, in milliseconds. */
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

/** Shuts down without losing a request: app.close() alone refuses connections that a gateway still opens. */
export default fp(async (app) => {
  let isDraining = false
  /**
   * Requests that wait until listening has stopped: an earlier response would make the client open its next connection.
   */
  let held: Array<() => void> | undefined
  let accepted = 0
  app.server.on('connection', () => { accepted++ })

  /**
   * Stops listening after a quiet turn of the event loop: one that accepted no connection and was too short for a new
   * one to arrive. The kernel resets connections that still wait to be accepted, though a gateway may have sent a
   * request on them. Nothing runs between that turn and the close, not even a promise or a function that runs for the
   * first time. A pause before each turn makes it unlikely that the scheduler preempts the process there.
   */
  const stopListening = () => new Promise<void>((resolve) => {
    new Server().close()
    const end = performance.now() + acceptMs
    const pause = () => { setTimeout(() => setImmediate(look), pauseMs) }
    const look = () => {
      const [before, began] = [accepted, performance.now()]
      setImmediate(() => {
        const now = performance.now()
        if ((accepted > before || now - began > quietMs) && now < end) return pause()
        // The close() of http.Server also destroys idle connections, but a request may be arriving on one of them.
        Server.prototype.close.call(app.server)
        resolve()
      })
    }
    pause()
  })

  app.decorate('isDraining', () => isDraining)
  app.addHook('onRequest', (_request, _reply, done) => {
    if (held) held.push(done)
    else done()
  })

  // The responses to requests that began before the drain carry this header, too.
  app.addHook('onSend', (_request, reply, _payload, done) => {
    if (isDraining) reply.header('connection', 'close')
    done()
  })

  app.decorate('drain', async (seconds: number, abort: AbortSignal) => {
    const pause = (ms: number) => sleep(ms, undefined, { signal: abort }).catch(() => undefined)
    isDraining = true
    // Fastify's response to a malformed path passes no hook.
    app.server.prependListener('request', (_request, response) => { response.shouldKeepAlive = false })
    await pause(seconds * 1000)
    held = []
    const closed = once(app.server, 'close')
    await stopListening()
    for (const resume of held) resume()
    held = undefined
    await Promise.race([closed, pause(idleMs)])
    app.server.closeIdleConnections()
    await Promise.race([closed, sleep(responsesMs)])
  })
}, { name: 'drain' })
