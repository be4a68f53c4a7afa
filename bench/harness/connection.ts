import { connect } from 'node:net'

const bufferBytes = 65_536
const lengthHeader = /\r\ncontent-length: (\d+)/i

/**
 * One keep-alive connection to 127.0.0.1 with just enough of HTTP/1.1: it writes a prepared request, and resolves when
 * the whole response, which has a Content-Length, has arrived. Any status other than 200 ends the process.
 */
export function openConnection (port: number, onAnswer: () => void) {
  let left = 0
  const callback = (size: number, buffer: Uint8Array) => {
    if (left === 0) {
      const text = (buffer as Buffer).toString('latin1', 0, size)
      if (!text.startsWith('HTTP/1.1 200')) throw new Error(`the server answered ${text}`)
      left = text.indexOf('\r\n\r\n') + 4 + Number(lengthHeader.exec(text)?.[1])
    }
    left -= size
    if (left === 0) onAnswer()
    return true
  }
  const socket = connect({ host: '127.0.0.1', port, noDelay: true, onread: { buffer: Buffer.alloc(bufferBytes), callback } })
  return {
    send: (request: Buffer) => { socket.write(request) },
    close: () => { socket.destroy() }
  }
}
