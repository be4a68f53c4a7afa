import type { IncomingMessage, RequestListener, ServerResponse } from 'node:http'
import type { Socket } from 'node:net'
import type { UnfinishedBodies } from './unfinished-bodies.js'

/** Most requests that wait for their response on one connection (CONTRACT, section 4). */
const maxUnanswered = 16

interface Connection {
  unanswered: number
  /** The response to the newest request, until the response is finished and the whole request has arrived. */
  newest: ServerResponse<IncomingMessage> | undefined
}

/** Limits per connection. They count on Node's `request` event, before Fastify, so they apply to every route. */
export function connectionLimits (bodies: UnfinishedBodies) {
  const connections = new WeakMap<Socket, Connection>()

  function connectionOf (socket: Socket) {
    let connection = connections.get(socket)
    if (connection === undefined) {
      connections.set(socket, connection = { unanswered: 0, newest: undefined })
      socket.once('close', () => clearNewest(socket))
    }
    return connection
  }

  function clearNewest (socket: Socket) {
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
      // The response did not wait for the whole body: Node reads the rest while the connection stays open.
      bodies.add(req)
      req.once('end', () => clearNewest(req.socket))
    }
  }

  return {
    /**
     * Passes requests to `handle`, at most 16 per connection at a time. If `handle` throws, only that connection is
     * closed.
     */
    guard: (handle: RequestListener, onError: (error: unknown) => void): RequestListener => (request, response) => {
      const { socket } = request
      // The parser still emits requests that it read before the connection was destroyed.
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
    /**
     * Whether a response to bytes that the parser refused would be the next response, and the only one to its request.
     */
    canRespond (socket: Socket): boolean {
      const { unanswered, newest } = connectionOf(socket)
      // The refused bytes belong to the body of the newest request, or they start a new request.
      return newest && !newest.req.complete ? unanswered === 1 && !newest.headersSent : unanswered === 0
    }
  }
}
