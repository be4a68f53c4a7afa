import { randomUUID } from 'node:crypto'
import http from 'node:http'
import type { Socket } from 'node:net'
import type { Duplex } from 'node:stream'
import { problem, problemBody, type ProblemCode } from '../errors.js'

/** How long a client has to read a last answer before its connection is cut, in milliseconds. */
const lingerMs = 1000

const parserErrors: Record<string, ProblemCode> = {
  HPE_HEADER_OVERFLOW: 'headers_too_large',
  ERR_HTTP_REQUEST_TIMEOUT: 'request_timeout'
}

/** Answers what Node's parser could not read as a request (RFC 9457 here too), and ends the connection. */
export function answerUnreadable (error: NodeJS.ErrnoException & { rawPacket?: unknown }, socket: Socket) {
  if (error.code === 'ECONNRESET' || !socket.writable) return
  const answer = problem(parserErrors[String(error.code)] ?? 'bad_request')
  const requestId = randomUUID()
  const isHead = (error.rawPacket as Buffer | undefined)?.toString('latin1', 0, 5) === 'HEAD '
  const body = JSON.stringify(problemBody(answer, requestId))
  endConnection(socket, [
    `HTTP/1.1 ${answer.statusCode} ${http.STATUS_CODES[answer.statusCode]}`,
    'Content-Type: application/problem+json',
    `Content-Length: ${Buffer.byteLength(body)}`,
    'Cache-Control: no-store',
    `X-Request-Id: ${requestId}`,
    'Connection: close',
    '',
    isHead ? '' : body
  ].join('\r\n'))
}

/** Answers CONNECT, of which Node hands over the bare socket, like any other method; no tunnel opens. */
export function answerConnect (this: http.Server, request: http.IncomingMessage, socket: Duplex) {
  const response = new http.ServerResponse(request)
  response.assignSocket(socket as Socket)
  response.shouldKeepAlive = false
  response.once('finish', () => endConnection(socket))
  socket.on('error', socket.destroy)
  this.emit('request', request, response)
}

/** Ends a connection that Node no longer looks after; a client that keeps its side open is cut off. */
function endConnection (socket: Duplex, lastBytes = '') {
  socket.end(lastBytes)
  setTimeout(() => socket.destroy(), lingerMs).unref()
}
