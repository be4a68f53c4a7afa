import { randomUUID } from 'node:crypto'
import http from 'node:http'
import type { Socket } from 'node:net'
import { Problem, problemBody, type ProblemCode } from './problems.js'

/** How long a client may take to read the last response before its connection is destroyed, in milliseconds. */
const lingerMs = 1000

const parserErrors: Record<string, ProblemCode> = {
  HPE_HEADER_OVERFLOW: 'headers_too_large',
  ERR_HTTP_REQUEST_TIMEOUT: 'request_timeout'
}

/**
 * Responds with problem details (RFC 9457) to a request that Node's parser cannot read, and ends the connection.
 * Without `canRespond` it only ends the connection: the client would take the bytes for the response to another
 * request.
 */
export function respondToUnreadable (
  error: NodeJS.ErrnoException & { rawPacket?: unknown }, socket: Socket, canRespond: boolean
) {
  if (error.code === 'ECONNRESET' || !socket.writable) return
  if (!canRespond) return endConnection(socket)
  const details = new Problem(parserErrors[String(error.code)] ?? 'bad_request')
  const requestId = randomUUID()
  const isHead = (error.rawPacket as Buffer | undefined)?.toString('latin1', 0, 5) === 'HEAD '
  const body = JSON.stringify(problemBody(details, requestId))
  endConnection(socket, [
    `HTTP/1.1 ${details.statusCode} ${http.STATUS_CODES[details.statusCode]}`,
    'Content-Type: application/problem+json',
    `Content-Length: ${Buffer.byteLength(body)}`,
    'Cache-Control: no-store',
    `X-Request-Id: ${requestId}`,
    'Connection: close',
    '',
    isHead ? '' : body
  ].join('\r\n'))
}

/** Ends a connection that Node no longer reads, also for a client that keeps its side open. */
function endConnection (socket: Socket, lastBytes = '') {
  socket.end(lastBytes)
  setTimeout(() => socket.destroy(), lingerMs).unref()
}
