import { once } from 'node:events'
import fp from 'fastify-plugin'
import { Redis } from 'ioredis'
import type { Config } from '../config.js'
import { problem } from '../errors.js'
import { outageLog, type OutageLog } from '../logger.js'

const connectTimeoutMs = 1000
const commandTimeoutMs = 1000
/** A connection that owes an answer for so long is given up: its host may have gone without a word. */
const socketTimeoutMs = 1500

declare module 'fastify' {
  interface FastifyInstance {
    /** Null in development without REDIS_URL. */
    redis: Redis | null
    redisOutage: OutageLog
  }
}

/** Waits for an answer of Redis; any failure of it means 503. The cause stays for the log. */
export async function answerOf<T> (reply: Promise<T>): Promise<T> {
  try {
    return await reply
  } catch (cause) {
    throw problem('unavailable', { cause })
  }
}

/**
 * Registers a script of one key, which is one round trip and one slot of a cluster. Returns the function that runs it and
 * throws unavailable when Redis does not answer.
 */
export function redisScript<Reply> (redis: Redis, name: string, lua: string) {
  type Command = (key: string, ...args: Array<string | number>) => Promise<Reply>
  redis.defineCommand(name, { numberOfKeys: 1, lua })
  const commands = redis as unknown as Record<string, Command>
  const run: Command = (key, ...args) => answerOf((commands[name] as Command)(key, ...args))
  return run
}

export type { Redis }

export default fp<Config>(async (app, { redisUrl }) => {
  const outage = outageLog(app.log, 'Redis')
  app.decorate('redisOutage', outage)
  if (redisUrl === undefined) {
    app.decorate('redis', null)
    return
  }
  const redis = new Redis(redisUrl, {
    connectTimeout: connectTimeoutMs,
    commandTimeout: commandTimeoutMs,
    socketTimeout: socketTimeoutMs,
    // A command waits for nothing: it fails at once while Redis is away, and is never sent a second time.
    enableOfflineQueue: false,
    autoResendUnfulfilledCommands: false,
    maxRetriesPerRequest: 0,
    retryStrategy: (attempt) => Math.min(attempt * 50, 500)
  })
  redis.on('error', outage.down)
  redis.on('ready', outage.up)
  app.decorate('redis', redis)
  app.addHook('onClose', async () => { redis.disconnect() })
  // The first requests should find it ready; when it is away the service starts all the same.
  await once(redis, 'ready', { signal: AbortSignal.timeout(connectTimeoutMs) }).catch(() => undefined)
}, { name: 'redis' })
