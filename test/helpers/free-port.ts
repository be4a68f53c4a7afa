import { randomInt } from 'node:crypto'
import { once } from 'node:events'
import { createServer } from 'node:net'

/** Below the ports that a system gives to connections, and to listeners that ask for any: those may be gone before they are used. */
let next = randomInt(10_000, 30_000)

/** A TCP port of 127.0.0.1 that nobody listens on, another one each time. */
export async function freePort (): Promise<number> {
  for (;;) {
    const port = next++
    const server = createServer().listen(port, '127.0.0.1')
    const isFree = await once(server, 'listening').then(() => true, () => false)
    if (!isFree) continue
    server.close()
    await once(server, 'close')
    return port
  }
}
