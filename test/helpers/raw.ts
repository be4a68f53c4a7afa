import { once } from 'node:events'
import { connect, type Socket } from 'node:net'
import type { FastifyInstance } from 'fastify'
import type { Json, TestResponse } from './service.js'

export interface RawResponse { status: number, headers: Record<string, string>, text: string }

/**
 * Writes bytes to a service as they are, and ends the connection on its side if `isEnded`. Returns the first final
 * response, as soon as it is complete or, if `isReadToClose`, when the service has closed the connection; undefined if
 * the service closes without a response. Rejects after `silenceMs` milliseconds without a byte.
 */
export async function raw (
  { url }: { url: string }, bytes: string | Buffer, { isEnded = false, isReadToClose = false, silenceMs = 5000 } = {}
): Promise<RawResponse | undefined> {
  const { hostname, port } = new URL(url)
  const request = Buffer.from(bytes as string, 'latin1')
  const isHead = request.subarray(0, 5).toString() === 'HEAD '
  return new Promise((resolve, reject) => {
    let text = ''
    const socket = connect(Number(port), hostname)
    const finish = () => {
      socket.destroy()
      resolve(readResponse(text, isHead))
    }
    socket.setTimeout(silenceMs, () => {
      socket.destroy()
      reject(new Error(`no response to ${JSON.stringify(request.toString('latin1').slice(0, 2000))}`))
    })
    socket.on('error', finish).on('close', finish)
    socket.on('data', (chunk) => {
      text = (text + chunk.toString('latin1')).replace(/^(?:HTTP\/1\.1 1\d\d .*?\r\n\r\n)+/s, '')
      if (!isReadToClose && readResponse(text, isHead)) finish()
    })
    socket.write(request)
    if (isEnded) socket.end()
  })
}

/**
 * The response at the beginning of a text; undefined while it is incomplete. A response without a length has no body.
 */
function readResponse (text: string, isHead: boolean): RawResponse | undefined {
  const end = text.indexOf('\r\n\r\n')
  if (end < 0) return undefined
  const [line = '', ...fields] = text.slice(0, end).split('\r\n')
  const headers = Object.fromEntries(
    fields.map((field) => [field.slice(0, field.indexOf(':')).toLowerCase(), field.slice(field.indexOf(':') + 2)])
  )
  // After HEAD nothing may follow, so all that follows is returned.
  const length = isHead ? 0 : Number(headers['content-length'] ?? 0)
  const body = text.slice(end + 4, isHead ? undefined : end + 4 + length)
  if (body.length < length) return undefined
  return { status: Number(line.split(' ')[1]), headers, text: Buffer.from(body, 'latin1').toString() }
}

/**
 * Sends bytes that fetch refuses to send, and reads until the service closes the connection. Without a response, status
 * is NaN.
 */
export async function rawRequest (
  url: string, bytes: string | Buffer, { isEnded = false } = {}
): Promise<TestResponse> {
  const response = await raw({ url }, Buffer.from(bytes as string), { isEnded, isReadToClose: true })
  const { status, headers, text } = response ?? { status: NaN, headers: {}, text: '' }
  const isJson = /json/.test(headers['content-type'] ?? '')
  return { status, headers: new Headers(headers), body: text && isJson ? JSON.parse(text) as Json : text }
}

/** The head of a request with its final empty line. `headers` are taken as they are, repeated ones included. */
export const head = (requestLine: string, ...headers: string[]) =>
  [`${requestLine} HTTP/1.1`, 'Host: localhost', 'Connection: close', ...headers, '', ''].join('\r\n')

/**
 * Opens a connection on which a test writes bytes as they are. No other connection may open at the same time. `closed`
 * resolves with all that was read.
 */
export async function openConnection ({ app, url }: { app: FastifyInstance, url: string }) {
  const { hostname, port } = new URL(url)
  const accepted = once(app.server, 'connection') as Promise<[Socket]>
  const socket = connect(Number(port), hostname).setEncoding('latin1').on('error', () => {})
  let text = ''
  socket.on('data', (chunk: string) => { text += chunk })
  const closed = new Promise<string>((resolve) => { socket.on('close', () => resolve(text)) })
  const [peer] = await accepted
  return {
    socket,
    closed,
    get text () { return text },
    /** Writes each part after the service has read the previous one. */
    async write (...parts: string[]) {
      let length = peer.bytesRead
      for (const part of parts) {
        socket.write(part, 'latin1')
        length += part.length
        // A socket that the service has destroyed reads nothing more.
        while (peer.bytesRead < length && !peer.destroyed) await new Promise(setImmediate)
      }
    },
    /** The statuses of the responses, in order, as soon as `count` have arrived or the connection is closed. */
    async statuses (count = Infinity) {
      const read = () => [...text.matchAll(/HTTP\/1\.1 (\d{3}) /g)].map(([, status]) => Number(status))
      while (read().length < count && !socket.closed) await Promise.race([once(socket, 'data'), closed])
      return read()
    }
  }
}

/** Opens many connections and writes the bytes of each. Opens 100 at a time: no listener accepts thousands at once. */
export async function openMany (
  { url }: { url: string }, count: number, bytes: (index: number) => string
): Promise<Socket[]> {
  const { hostname, port } = new URL(url)
  const sockets: Socket[] = []
  while (sockets.length < count) {
    await Promise.all(Array.from({ length: Math.min(100, count - sockets.length) }, async () => {
      const socket = connect(Number(port), hostname).on('error', () => {})
      socket.write(bytes(sockets.push(socket) - 1), 'latin1')
      await once(socket, 'connect')
    }))
  }
  return sockets
}
