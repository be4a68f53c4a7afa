import { once } from 'node:events'
import type { FastifyBaseLogger } from 'fastify'
import fp from 'fastify-plugin'
import { Cluster } from 'ioredis'
import { outageLog, type OutageLog } from '../monitoring/outage-log.js'
import { connect, movable, type Redis, type RedisConnection } from '../redis/connect.js'
import { commandProbe, infoField } from '../redis/probe.js'
import { describeRedis, isWrongDatabase } from '../redis/refusal.js'
import type { RedisTarget } from '../redis/url.js'

const startTimeoutMs = 1000
/** How often Redis is probed, so that an idle process also notices a change. */
const probeIntervalMs = 1000

declare module 'fastify' {
  interface FastifyInstance {
    /** Null in development without REDIS_URL. */
    redis: Redis | null
    redisOutage: OutageLog
    /** Runs every command that the service uses. Rejects with the error of the first one that fails. */
    probeRedis: () => Promise<void>
  }
}

interface RedisPluginOptions {
  /** Undefined in development: all state is then in process memory. */
  connection: RedisConnection | undefined
}

/** Warns once of each eviction policy that may remove a revocation or a code before its TTL ends. */
function evictionWarning (log: FastifyBaseLogger) {
  const warned = new Set<string>()
  return (info: string) => {
    const policy = infoField(info, 'maxmemory_policy') ?? 'noeviction'
    if (policy === 'noeviction' || warned.has(policy)) return
    warned.add(policy)
    log.warn({ event: 'redis_eviction', policy },
      'Redis may evict keys, which revives tokens that were logged out: set maxmemory-policy to noeviction')
  }
}

/** INFO of a server; empty if it does not respond or the user lacks the right. */
const infoOf = (server: { info: () => Promise<string> }) => server.info().catch(() => '')

export default fp<RedisPluginOptions>(async (app, options) => {
  const outage = outageLog(app.log, 'Redis', describeRedis)
  app.decorate('redisOutage', outage)
  if (options.connection === undefined) {
    app.decorate<Redis | null>('redis', null)
    app.decorate('probeRedis', async () => {})
    return
  }
  const { target: configured, ...connectOptions } = options.connection
  const warnOfEviction = evictionWarning(app.log)
  /** Resolves when the work that follows the latest 'ready' event is done. */
  let settled = Promise.resolve()

  function open (target: RedisTarget): Redis {
    const connection = connect(target, connectOptions)
    connection.on('error', (error) => {
      outage.down(error)
      // ioredis would continue with database 0. Reconnect instead, until the server has the database.
      if (isWrongDatabase(error)) connection.disconnect(true)
    })
    connection.on('ready', () => { settled = settle(connection) })
    return connection
  }

  const redis = movable(open(configured))
  const probe = commandProbe(redis.client, redis.current)
  const probeRedis = () => probe().then(outage.up, (error: unknown) => {
    outage.down(error)
    throw error
  })
  const probeQuietly = () => probeRedis().catch(() => undefined)

  async function settle (connection: Redis) {
    // A Cluster connects to a node at the first command to it, and refuses further commands until it is connected.
    const servers = connection instanceof Cluster ? connection.nodes('master') : [connection]
    const infos = await Promise.all(servers.map(infoOf))
    const isClusterNode = !(connection instanceof Cluster) && infoField(infos[0] as string, 'cluster_enabled') === '1'
    if (isClusterNode && 'server' in configured) {
      redis.moveTo(open({ nodes: [configured.server] }))
      return
    }
    infos.forEach(warnOfEviction)
    await probeQuietly()
  }

  /**
   * Waits until Redis is ready, so that the first requests succeed. If Redis stays unavailable, the service starts
   * anyway.
   */
  async function start (connection: Redis): Promise<void> {
    await once(connection, 'ready', { signal: AbortSignal.timeout(startTimeoutMs) }).catch((error: unknown) => {
      if (!isWrongDatabase(error)) return
      connection.disconnect()
      throw new Error(
        'REDIS_URL names a database that the server does not have; in cluster mode there is only database 0')
    })
    await settled
    if (redis.current() !== connection) await start(redis.current())
  }
  await start(redis.current())

  app.decorate<Redis | null>('redis', redis.client)
  app.decorate('probeRedis', probeRedis)
  const timer = setInterval(probeQuietly, probeIntervalMs).unref()
  app.addHook('onClose', async () => {
    clearInterval(timer)
    redis.current().disconnect()
  })
}, { name: 'redis' })
