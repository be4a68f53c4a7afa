import { EventEmitter, once } from 'node:events'
import { connect, createServer, type AddressInfo, type Socket } from 'node:net'
import { setTimeout as sleep } from 'node:timers/promises'
import type { Test } from 'tap'

/**
 * pass: everything goes through; frozen: nothing does, until it passes again; slow: answers come 2 s late; cut: a connection
 * ends after the first byte of its next answer; refused: nobody listens, and no connection is left.
 */
type ProxyMode = 'pass' | 'frozen' | 'slow' | 'cut' | 'refused'

const slowMs = 2000

/** A TCP port in front of another one. */
export async function startProxy (t: Test, targetPort: number) {
  let mode: ProxyMode = 'pass'
  let lastWords: Buffer | undefined
  const changes = new EventEmitter().setMaxListeners(0)
  const open = new Set<Socket>()
  const closeAll = () => { for (const socket of open) socket.destroy() }

  /** Passes on what comes from one side in its order, however long each piece is held back. */
  function relay (from: Socket, to: Socket, isAnswer: boolean) {
    let before: Promise<unknown> = Promise.resolve()
    const hold = () => mode === 'slow' && isAnswer ? sleep(slowMs) : mode === 'frozen' ? once(changes, 'change') : undefined
    from.on('data', (chunk) => {
      before = Promise.all([before, hold()]).then(() => {
        if (isAnswer && lastWords) return to.end(Buffer.concat([chunk, lastWords]))
        if (mode !== 'cut' || !isAnswer) return to.write(chunk)
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
    /** Every connection that there is stays silent for ever, as one to a host that vanished; later ones are passed on. */
    silence () { for (const socket of open) socket.removeAllListeners('data').pause() },
    /** These bytes follow the next answer of a connection, in one piece with it, and end the connection; undefined stops that. */
    appendToAnswers (bytes: Buffer | undefined) { lastWords = bytes },
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
