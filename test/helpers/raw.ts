import { connect } from 'node:net'
import type { Answer, Json } from './service.js'

export interface RawAnswer { status: number, headers: Record<string, string>, text: string }

/**
 * Writes bytes to a service as they are, and ends its side where `isEnded`. Reads the first final answer, at once or when the
 * service has closed the connection; undefined where it does so without one. Rejects after 5 s of silence.
 */
export async function raw ({ url }: { url: string }, bytes: string | Buffer, { isEnded = false, isReadToClose = false } = {}): Promise<RawAnswer | undefined> {
  const { hostname, port } = new URL(url)
  const request = Buffer.from(bytes as string, 'latin1')
  const isHead = request.subarray(0, 5).toString() === 'HEAD '
  return new Promise((resolve, reject) => {
    let text = ''
    const socket = connect(Number(port), hostname)
    const finish = () => {
      socket.destroy()
      resolve(readAnswer(text, isHead))
    }
    socket.setTimeout(5000, () => {
      socket.destroy()
      reject(new Error(`no answer to ${JSON.stringify(request.toString('latin1').slice(0, 2000))}`))
    })
    socket.on('error', finish).on('close', finish)
    socket.on('data', (chunk) => {
      text = (text + chunk.toString('latin1')).replace(/^(?:HTTP\/1\.1 1\d\d .*?\r\n\r\n)+/s, '')
      if (!isReadToClose && readAnswer(text, isHead)) finish()
    })
    socket.write(request)
    if (isEnded) socket.end()
  })
}

/** The answer that text begins with, once all of it is there; one without a length has no body. */
function readAnswer (text: string, isHead: boolean): RawAnswer | undefined {
  const end = text.indexOf('\r\n\r\n')
  if (end < 0) return undefined
  const [line = '', ...fields] = text.slice(0, end).split('\r\n')
  const headers = Object.fromEntries(fields.map((field) => [field.slice(0, field.indexOf(':')).toLowerCase(), field.slice(field.indexOf(':') + 2)]))
  // After HEAD nothing may follow, so all that does is shown.
  const length = isHead ? 0 : Number(headers['content-length'] ?? 0)
  const body = text.slice(end + 4, isHead ? undefined : end + 4 + length)
  if (body.length < length) return undefined
  return { status: Number(line.split(' ')[1]), headers, text: Buffer.from(body, 'latin1').toString() }
}

/** Sends bytes that fetch would refuse to send, and reads until the service closes the connection; status NaN where no answer came. */
export async function rawRequest (url: string, bytes: string | Buffer, { isEnded = false } = {}): Promise<Answer> {
  const { status, headers, text } = await raw({ url }, Buffer.from(bytes as string), { isEnded, isReadToClose: true }) ?? { status: NaN, headers: {}, text: '' }
  const isJson = /json/.test(headers['content-type'] ?? '')
  return { status, headers: new Headers(headers), body: text && isJson ? JSON.parse(text) as Json : text }
}

/** The head of a request, closed by an empty line; `headers` as they are to stand in it, repeated ones included. */
export const head = (requestLine: string, ...headers: string[]) => [`${requestLine} HTTP/1.1`, 'Host: localhost', 'Connection: close', ...headers, '', ''].join('\r\n')
