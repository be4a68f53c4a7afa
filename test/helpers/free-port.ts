import { randomInt } from 'node:crypto'
import { once } from 'node:events'
import { createServer } from 'node:net'

/**
 * Below the ports that the system assigns to connections and to listeners on port 0: those could be taken before use.
 */
let next = randomInt(10_000, 30_000)

/** A free TCP port of 127.0.0.1, a different one at each call. */
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
