import { once } from 'node:events'
import { connect, createServer, type AddressInfo, type Socket } from 'node:net'
import type { Test } from 'tap'

/**
 * What a pooler does when a client begins a transaction. `keep`: each client keeps its server connection. `swap`: the
 * client gets the server connection of another client. `exhaust`: the pooler has no further server connection, so other
 * clients wait.
 */
type PoolerMode = 'keep' | 'swap' | 'exhaust'

/** The beginning of BackendKeyData, with its length of 12 bytes. A pooler replaces the process id that follows. */
const keyData = Buffer.from([0x4b, 0, 0, 0, 12])

/**
 * Starts a minimal pooler in transaction mode in front of a database. Returns the URL of the database through the
 * pooler.
 */
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
