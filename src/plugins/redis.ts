import { once } from 'node:events'
import fp from 'fastify-plugin'
import { Redis } from 'ioredis'
import type { Config } from '../config.js'
import { problem } from '../errors.js'
import { outageLog, type OutageLog } from '../logger.js'

const connectTimeoutMs = 1000
const commandTimeoutMs = 1000

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
