import { Redis } from 'ioredis'
import type { Test } from 'tap'
import { until } from './server-process.js'
import { startRedis } from './servers.js'

/**
 * Starts a Redis of its own and records the commands that reach it, those inside scripts included. No other client may
 * use it when MONITOR begins: ioredis throws if the first reported command arrives in one chunk with the OK.
 */
export async function monitoredRedis (t: Test) {
  const server = await startRedis()
  const redis = new Redis(server.url)
  await redis.ping()
  const monitor = await redis.monitor()
  t.teardown(async () => {
    monitor.disconnect()
    redis.disconnect()
    await server.stop()
  })
  let seen: string[][] = []
  // The service probes Redis every second, whatever a test does.
  const isProbe = (command: string[]) => command.some((part) => part.startsWith('phone-auth:probe:'))
  monitor.on('monitor', (_time: string, command: string[]) => { if (!isProbe(command)) seen.push(command) })
  let marks = 0
  return {
    url: server.url,
    redis,
    /** Returns all commands since the last call. */
    async take () {
      const mark = `mark ${marks++}`
      await redis.echo(mark)
      const find = () => seen.findIndex((command) => command[1] === mark)
      await until(() => find() !== -1)
      const before = seen.slice(0, find())
      seen = []
      return before
    }
  }
}
