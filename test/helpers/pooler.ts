import { once } from 'node:events'
import { connect, createServer, type AddressInfo, type Socket } from 'node:net'
import type { Test } from 'tap'

/**
 * What a pooler does when a client begins a transaction: `keep` leaves each client on its connection of the server, `swap` gives
 * the client a connection that another one used, `exhaust` has no further one, so the others wait.
 */
type PoolerMode = 'keep' | 'swap' | 'exhaust'

/** BackendKeyData, of 12 bytes after its type: the first number of a startup that a pooler replaces by its own. */
const keyData = Buffer.from([0x4b, 0, 0, 0, 12])

/** A pooler in transaction mode before the server of a database, in small. Returns the URL of the database through it. */
export async function startPooler (t: Test, databaseUrl: string, mode: PoolerMode) {
  const url = new URL(databaseUrl)
  const target = { host: url.hostname, port: Number(url.port) }
  const pairs: Array<{ client: Socket, server: Socket }> = []
  const listener = createServer((client) => {
    const pair = { client, server: connect(target) }
    pairs.push(pair)
    const { server } = pair
    let isExhausted = false
    client.on('data', (chunk) => {
      const other = pairs.find((one) => one !== pair && !one.client.destroyed)
      if (chunk.includes('BEGIN') && other) {
        if (mode === 'swap') [pair.server, other.server] = [other.server, pair.server]
        if (mode === 'exhaust') other.client.emit('exhausted')
      }
      if (!isExhausted) pair.server.write(chunk)
    })
    client.on('exhausted', () => { isExhausted = true })
    server.on('data', (chunk) => {
      const at = chunk.indexOf(keyData)
      if (at >= 0) chunk.writeUInt32BE(1, at + keyData.length)
      pairs.find((one) => one.server === server)?.client.write(chunk)
    })
    for (const socket of [client, server]) socket.on('error', () => {})
    client.on('close', () => pair.server.destroy())
    server.on('close', () => pairs.find((one) => one.server === server)?.client.destroy())
  }).listen(0, '127.0.0.1')
  await once(listener, 'listening')
  t.teardown(() => {
    listener.close()
    for (const { client, server } of pairs) { client.destroy(); server.destroy() }
  })
  url.port = String((listener.address() as AddressInfo).port)
  return url.href
}
