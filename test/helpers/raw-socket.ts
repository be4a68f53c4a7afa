import { connect } from 'node:net'

export interface RawAnswer { status: number, headers: Record<string, string>, text: string }

/**
 * Writes bytes to a service as they are and reads the first final answer. Undefined where the connection is closed
 * without one; rejects after 5 s of silence.
 */
export async function raw ({ url }: { url: string }, bytes: string | Buffer): Promise<RawAnswer | undefined> {
  const { hostname, port } = new URL(url)
  const request = Buffer.from(bytes as string, 'latin1')
  const isHead = request.subarray(0, 5).toString() === 'HEAD '
  return new Promise((resolve, reject) => {
    let text = ''
    const socket = connect(Number(port), hostname, () => { socket.write(request) })
    const finish = (answer?: RawAnswer) => {
      socket.destroy()
      resolve(answer)
    }
    socket.setTimeout(5000, () => {
      socket.destroy()
      reject(new Error(`no answer to ${JSON.stringify(request.toString('latin1').slice(0, 2000))}`))
    })
    socket.on('error', () => { finish() })
    socket.on('close', () => { finish() })
    socket.on('data', (chunk) => {
      text = (text + chunk.toString('latin1')).replace(/^(?:HTTP\/1\.1 1\d\d .*?\r\n\r\n)+/s, '')
      const answer = readAnswer(text, isHead)
      if (answer) finish(answer)
    })
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
