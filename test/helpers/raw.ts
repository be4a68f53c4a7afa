import { once } from 'node:events'
import { connect } from 'node:net'
import type { Answer, Json } from './service.js'

/** The first answer of HTTP/1.1 in what came over the wire; status NaN where there is none. */
function parseAnswer (received: Buffer): Answer {
  const end = received.indexOf('\r\n\r\n')
  const [statusLine = '', ...lines] = received.toString('latin1', 0, end).split('\r\n')
  const headers = new Headers(lines.map((line) => line.split(/: ?(.*)/s).slice(0, 2) as [string, string]))
  const body = received.toString('utf8', end + 4, end + 4 + Number(headers.get('content-length')))
  const isJson = /json/.test(headers.get('content-type') ?? '')
  return { status: Number(/^HTTP\/1\.1 (\d{3}) /.exec(statusLine)?.[1]), headers, body: body && isJson ? JSON.parse(body) as Json : body }
}

/** Sends bytes that fetch would refuse to send, and reads until the service closes the connection. */
export async function rawRequest (url: string, bytes: string | Buffer, { isEnded = false } = {}): Promise<Answer> {
  const { hostname, port } = new URL(url)
  const socket = connect(Number(port), hostname)
  const received: Buffer[] = []
  socket.on('data', (chunk) => received.push(chunk))
  socket.write(bytes)
  if (isEnded) socket.end()
  await once(socket, 'close')
  return parseAnswer(Buffer.concat(received))
}

/** The head of a request, closed by an empty line; `headers` as they are to stand in it, repeated ones included. */
export const head = (requestLine: string, ...headers: string[]) => [`${requestLine} HTTP/1.1`, 'Host: localhost', 'Connection: close', ...headers, '', ''].join('\r\n')
