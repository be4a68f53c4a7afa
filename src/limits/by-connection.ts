import type { IncomingMessage, RequestListener, ServerResponse } from 'node:http'
import type { Socket } from 'node:net'
import type { UnfinishedBodies } from './unfinished-bodies.js'

/** Most requests that wait for their response on one connection (CONTRACT, section 4). */
const maxUnanswered = 16

interface Connection {
  unanswered: number
  /** The response to the newest request, until it is finished and the request has arrived as a whole. */
  newest: ServerResponse<IncomingMessage> | undefined
}

/** What one connection may do. It counts on Node's `request` event, before Fastify, so no route is left out. */
export function connectionLimits (bodies: UnfinishedBodies) {
  const connections = new WeakMap<Socket, Connection>()

  function connectionOf (socket: Socket) {
    let connection = connections.get(socket)
    if (connection === undefined) {
      connections.set(socket, connection = { unanswered: 0, newest: undefined })
      socket.once('close', () => forget(socket))
    }
    return connection
  }

  function forget (socket: Socket) {
    const connection = connectionOf(socket)
    if (connection.newest) bodies.delete(connection.newest.req)
    connection.newest = undefined
  }

  function onFinish (this: ServerResponse<IncomingMessage>) {
    const { req } = this
    const connection = connectionOf(req.socket)
    connection.unanswered--
    if (connection.newest !== this) return
    if (req.complete) {
      connection.newest = undefined
    } else if (req.socket.writable) {
      // The connection stays open, and Node reads the rest of a body that the response did not wait for.
      bodies.add(req)
      req.once('end', () => forget(req.socket))
    }
  }

  return {
    /** Passes requests on to `handle`, at most 16 of a connection at a time. Whatever `handle` throws ends the connection only. */
    guard: (handle: RequestListener, onError: (error: unknown) => void): RequestListener => (request, response) => {
      const { socket } = request
      // The parser still hands over what it had read when the connection was destroyed.
      if (socket.destroyed) return
      const connection = connectionOf(socket)
      connection.unanswered++
      connection.newest = response
      if (connection.unanswered > maxUnanswered) {
        socket.destroy()
        return
      }
      response.on('finish', onFinish)
      try {
        handle(request, response)
      } catch (error) {
        onError(error)
        socket.destroy()
      }
    },
    /** Whether a response to bytes that the parser refused would be the next one, and the only one, to its request. */
    canRespond (socket: Socket): boolean {
      const { unanswered, newest } = connectionOf(socket)
      // The refused bytes are the body of the newest request, or they begin a request of their own.
      return newest && !newest.req.complete ? unanswered === 1 && !newest.headersSent : unanswered === 0
    }
  }
}
