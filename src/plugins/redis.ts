import { once } from 'node:events'
import fp from 'fastify-plugin'
import { Cluster, Redis as Server } from 'ioredis'
import type { Config } from '../config.js'
import { problem } from '../errors.js'
import { outageLog, type OutageLog } from '../logger.js'
import { parseRedisUrl, type RedisTarget } from '../redis-url.js'

const connectTimeoutMs = 1000
const commandTimeoutMs = 1000
/** A connection that owes an answer for so long is given up: its host may have gone without a word. */
const socketTimeoutMs = 1500
/** How often the nodes of a Cluster are asked who has which slots, so that a failover is noticed. */
const slotsRefreshMs = 1000

export type Redis = Server | Cluster

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

const retryStrategy = (attempt: number) => Math.min(attempt * 50, 500)

/** Bounds for each connection. A command waits for nothing: it fails at once while Redis is away, and is never sent twice. */
const bounded = {
  connectTimeout: connectTimeoutMs,
  commandTimeout: commandTimeoutMs,
  socketTimeout: socketTimeoutMs,
  autoResendUnfulfilledCommands: false,
  maxRetriesPerRequest: 0,
  // A master that became a replica keeps its connections.
  reconnectOnError: ({ message }: Error) => message.startsWith('READONLY')
}

/** Connects to one server, to a Cluster, or to the master that the Sentinels name. */
export function connect (target: RedisTarget): Redis {
  if ('server' in target) return new Server(target.server, { ...bounded, enableOfflineQueue: false, retryStrategy })
  if ('nodes' in target) {
    const { protocol, username, password } = new URL(target.nodes[0] as string)
    return new Cluster(target.nodes, {
      enableOfflineQueue: false,
      clusterRetryStrategy: retryStrategy,
      slotsRefreshTimeout: connectTimeoutMs,
      slotsRefreshInterval: slotsRefreshMs,
      // Zero: what a lost connection owed may have been run.
      retryDelayOnFailover: 0,
      // Names stay names, or no certificate would fit them.
      dnsLookup: (address, callback) => callback(null, address),
      redisOptions: {
        ...bounded,
        username: decodeURIComponent(username),
        password: decodeURIComponent(password),
        ...(protocol === 'rediss:' && { tls: {} })
      }
    })
  }
  const { sentinels, name, username, password, isTls } = target
  return new Server({
    ...bounded,
    enableOfflineQueue: false,
    retryStrategy,
    sentinels,
    name,
    sentinelCommandTimeout: commandTimeoutMs,
    sentinelRetryStrategy: retryStrategy,
    username,
    password,
    sentinelUsername: username,
    sentinelPassword: password,
    ...(isTls && { tls: {}, sentinelTLS: {}, enableTLSForSentinelMode: true })
  })
}

export default fp<Config>(async (app, { redisUrl }) => {
  const outage = outageLog(app.log, 'Redis')
  app.decorate('redisOutage', outage)
  if (redisUrl === undefined) {
    app.decorate<Redis | null>('redis', null)
    return
  }
  const redis = connect(parseRedisUrl(redisUrl) as RedisTarget)
  redis.on('error', outage.down)
  redis.on('ready', outage.up)
  app.decorate<Redis | null>('redis', redis)
  app.addHook('onClose', async () => { redis.disconnect() })
  // The first requests should find it ready; when it is away the service starts all the same.
  await once(redis, 'ready', { signal: AbortSignal.timeout(connectTimeoutMs) }).catch(() => undefined)
  // A Cluster connects to a node at the first command to it, and refuses those that come meanwhile.
  if (redis instanceof Cluster) await Promise.allSettled(redis.nodes().map((node) => node.ping()))
}, { name: 'redis' })
