import { EventEmitter, once } from 'node:events'
import { connect, createServer, type AddressInfo, type Socket } from 'node:net'
import { setTimeout as sleep } from 'node:timers/promises'
import type { Test } from 'tap'

/**
 * pass: everything goes through. frozen: nothing goes through until the mode changes. slow: responses arrive 2 s late.
 * cut: a connection ends after the first byte of its next response. refused: the port is closed, and so are all
 * connections.
 */
type ProxyMode = 'pass' | 'frozen' | 'slow' | 'cut' | 'refused'

const slowMs = 2000

/** Starts a TCP proxy in front of a port. */
export async function startProxy (t: Test, targetPort: number) {
  let mode: ProxyMode = 'pass'
  let lastWords: Buffer | undefined
  const changes = new EventEmitter().setMaxListeners(0)
  const open = new Set<Socket>()
  const closeAll = () => { for (const socket of open) socket.destroy() }

  /** Forwards the chunks of one side in order, however long each is held back. */
  function relay (from: Socket, to: Socket, isResponse: boolean) {
    let before: Promise<unknown> = Promise.resolve()
    const hold = () =>
      mode === 'slow' && isResponse ? sleep(slowMs) : mode === 'frozen' ? once(changes, 'change') : undefined
    from.on('data', (chunk) => {
      before = Promise.all([before, hold()]).then(() => {
        if (isResponse && lastWords) return to.end(Buffer.concat([chunk, lastWords]))
        if (mode !== 'cut' || !isResponse) return to.write(chunk)
        to.end(chunk.subarray(0, 1))
        from.destroy()
      })
    })
    from.on('error', () => {}).on('close', () => {
      open.delete(from)
      to.destroy()
    })
    open.add(from)
  }

  const server = createServer((socket) => {
    const target = connect(targetPort, '127.0.0.1')
    relay(socket, target, false)
    relay(target, socket, true)
  })
  const listen = async (port: number) => {
    server.listen(port, '127.0.0.1')
    await once(server, 'listening')
    return (server.address() as AddressInfo).port
  }
  const port = await listen(0)
  t.teardown(() => {
    server.close()
    closeAll()
  })
  return {
    port,
    /** Makes every open connection silent for ever, like one to a dead host. Later connections are forwarded. */
    silence () { for (const socket of open) socket.removeAllListeners('data').pause() },
    /**
     * Sends these bytes in one chunk with the next response of each connection, then ends the connection. Undefined
     * stops that.
     */
    appendToResponses (bytes: Buffer | undefined) { lastWords = bytes },
    async set (next: ProxyMode) {
      if (next === 'refused') {
        server.close()
        closeAll()
      } else if (mode === 'refused') {
        await listen(port)
      }
      mode = next
      changes.emit('change')
    }
  }
}
