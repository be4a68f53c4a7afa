import { once } from 'node:events'
import { Server } from 'node:net'
import { setTimeout as sleep } from 'node:timers/promises'
import fp from 'fastify-plugin'

/** Longest wait for a moment in which no connection waits to be accepted, how long such a moment is, and how often one is looked for, in milliseconds. */
const acceptMs = 1000
const quietMs = 0.05
const pauseMs = 1
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
  /** Requests that go on once listening has stopped: an answer would bring its client's next connection before that. */
  let held: Array<() => void> | undefined
  let accepted = 0
  app.server.on('connection', () => { accepted++ })

  /**
   * Stops listening after a turn of the event loop in which no connection came, and so short that hardly one can have come
   * since: the kernel resets those that still wait, though a gateway may have written a request on them. Nothing comes between
   * that turn and the end, not even a promise or a function that runs for the first time; a pause before each turn keeps the
   * processor from being taken away there.
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
        // Not that of an HTTP server, which cuts idle connections: on one of them a request may just be coming in.
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
    held = []
    const closed = once(app.server, 'close')
    await stopListening()
    for (const goOn of held) goOn()
    held = undefined
    await Promise.race([closed, pause(idleMs)])
    app.server.closeIdleConnections()
    await Promise.race([closed, sleep(answersMs)])
  })
}, { name: 'drain' })
