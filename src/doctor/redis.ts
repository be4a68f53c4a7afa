import { setTimeout as sleep } from 'node:timers/promises'
import Fastify from 'fastify'
import { loggerOptions } from '../monitoring/logger.js'
import redisPlugin from '../plugins/redis.js'
import type { Redis, RedisConnection } from '../redis/connect.js'
import type { RedisTarget } from '../redis/url.js'
import { errorText, ok, problem, warning, type Finding } from './finding.js'

/** Never written: SET with XX needs an existing key. */
const key = 'code:doctor'
const oldestVersion = 6.2
const reachTimeoutMs = 3000
const retryMs = 100
/** Shares of used memory: from the first on a warning, from the second on a problem. */
const fewFree = 0.8
const almostNoneFree = 0.95

/** A server, or a master of a Cluster, as far as the checks use it. */
interface Node {
  info: () => Promise<string>
  config: (get: 'GET', name: string) => Promise<unknown>
  options: { host?: string | undefined, port?: number | undefined }
}

/** A Cluster is recognized by its `nodes`: the connection may be a Proxy, which instanceof does not see through. */
function mastersOf (redis: Redis): Node[] {
  const { nodes } = redis as { nodes?: (role: 'master') => Node[] }
  return nodes ? nodes.call(redis, 'master') : [redis as Node]
}

/**
 * Returns the commands of the service that the user of this connection may not run. Only Redis 7 and later can check.
 */
const forbidden = `
local found = {}
if not redis.acl_check_cmd then return found end
local function try (...)
  if not redis.acl_check_cmd(...) then table.insert(found, (select(1, ...))) end
end
local key = KEYS[1]
try('EVALSHA', '', 1, key)
try('GET', key)
try('SET', key, 1, 'PX', 1)
try('DEL', key)
try('EXPIRE', key, 1)
try('PEXPIRE', key, 1)
try('PTTL', key)
try('HGET', key, 'a')
try('HMGET', key, 'a')
try('HGETALL', key)
try('HSET', key, 'a', 1)
try('HINCRBY', key, 'a', 1)
try('HDEL', key, 'a')
return found`

const acl = 'see the commands and keys in docs/deployment.md'
const reasons: Array<[pattern: RegExp, reason: string]> = [
  [/READONLY/, 'this is a replica, point REDIS_URL to the master'],
  [/OOM/, 'its memory is full, raise maxmemory'],
  [/MISCONF/, 'it cannot save its data, free its disk']
]

function refused (error: unknown) {
  const message = errorText(error)
  const [, reason = acl] = reasons.find(([pattern]) => pattern.test(message)) ?? []
  return problem('Redis writes', `refused (${message}): ${reason}`)
}

async function checkWrites (redis: Redis): Promise<Finding> {
  try {
    await redis.set(key, '', 'PX', 1, 'XX')
    return ok('Redis writes', 'accepted')
  } catch (error) {
    return refused(error)
  }
}

async function checkRights (redis: Redis): Promise<Finding> {
  try {
    const commands = await redis.eval(forbidden, 1, key) as string[]
    return commands.length > 0
      ? problem('Redis rights', `the user may not run ${commands.join(', ')}: ${acl}`)
      : ok('Redis rights', 'complete')
  } catch (error) {
    return problem('Redis rights', `no script runs (${errorText(error)}): ${acl}`)
  }
}

/** A field of INFO. */
const field = (info: string, name: string) => new RegExp(`^${name}:(.*?)\\r?$`, 'm').exec(info)?.[1] ?? ''

const gigabytes = (bytes: number) => `${(bytes / 2 ** 30).toFixed(1)} GB`

/** Whether a version is still supported. */
export function checkVersion (subject: string, info: string): Finding {
  const version = field(info, 'redis_version')
  return Number.parseFloat(version) < oldestVersion
    ? warning(subject, `${version} is no longer supported by its developers: upgrade`)
    : ok(subject, version)
}

/** Whether memory is free: up to maxmemory, or up to the memory of the machine if maxmemory is not set. */
export function checkMemory (subject: string, info: string): Finding {
  const used = Number(field(info, 'used_memory'))
  const limit = Number(field(info, 'maxmemory')) || Number(field(info, 'total_system_memory'))
  const text = `${gigabytes(Math.max(limit - used, 0))} of ${gigabytes(limit)} free`
  if (used >= limit * almostNoneFree) return problem(subject, `${text}: raise maxmemory, or writes are refused`)
  return used >= limit * fewFree ? warning(subject, `${text}: raise maxmemory before it is full`) : ok(subject, text)
}

/** Whether the data survives a restart. */
export async function checkPersistence (subject: string, info: string, node: Pick<Node, 'config'>): Promise<Finding> {
  if (field(info, 'aof_last_write_status') === 'err' || field(info, 'rdb_last_bgsave_status') === 'err') {
    return problem(subject, 'the last write to disk failed: free the disk, or Redis refuses writes')
  }
  if (field(info, 'aof_enabled') === '1') return ok(subject, 'append-only file')
  // Managed services do not show their settings.
  const save = await node.config('GET', 'save').then(String, () => undefined)
  if (save === undefined) {
    return warning(subject, 'no append-only file: make sure that the service keeps the data through a restart')
  }
  return save === 'save,'
    ? warning(subject, 'none: a restart forgets codes, counts and logouts, set appendonly yes')
    : warning(subject, 'snapshots only: a restart forgets the logouts since the last one, set appendonly yes')
}

async function checkNode (node: Node, name: string): Promise<Finding[]> {
  const info = await infoOf(node)
  if (info === '') {
    return [warning(`${name} server`,
      'the user may not run INFO: version, eviction, persistence and memory are not checked')]
  }
  const policy = field(info, 'maxmemory_policy')
  return [
    checkVersion(`${name} version`, info),
    policy === 'noeviction'
      ? ok(`${name} eviction`, policy)
      : problem(`${name} eviction`,
        `maxmemory-policy is ${policy}, which forgets logouts when memory runs short: set noeviction`),
    await checkPersistence(`${name} persistence`, info, node),
    checkMemory(`${name} memory`, info)
  ]
}

/** INFO of a server; empty if the user lacks the right. */
const infoOf = (node: Node) => node.info().catch(() => '')

function checkTopology (target: RedisTarget, info: string, masters: number): Finding {
  const subject = 'Redis topology'
  if ('sentinels' in target) return ok(subject, 'a master that Sentinels name')
  if (field(info, 'cluster_enabled') !== '1') return ok(subject, 'one server')
  return 'nodes' in target
    ? ok(subject, `Cluster of ${masters} masters`)
    : warning(subject, 'REDIS_URL names a single node of a Cluster: ' +
      'add two more, joined by commas, or nothing starts while that node is unavailable')
}

/** Why a connection cannot be used. A connection to a replica is closed after each refused write. */
export const unreachable = (cause: unknown): Finding => errorText(cause).startsWith('READONLY')
  ? refused(cause)
  : problem('Redis',
    `not reachable: ${errorText(cause)}. Check host, port, user and password in REDIS_URL, and the firewall`)

/**
 * Waits for a connection that is still being opened, such as to the nodes of a Cluster of which REDIS_URL names one.
 */
async function reach (redis: Redis): Promise<void> {
  const end = performance.now() + reachTimeoutMs
  for (;;) {
    try {
      await redis.ping()
      return
    } catch (error) {
      // A server that cannot save its data refuses PING, too.
      if (errorText(error).startsWith('MISCONF')) return
      if (performance.now() > end) throw error
    }
    await sleep(retryMs)
  }
}

/** Checks Redis and the rights of its user. Changes nothing. */
export async function checkRedis (connection: RedisConnection | undefined): Promise<Finding[]> {
  if (connection === undefined) return [ok('Redis', 'none, codes are in process memory: for development only')]
  const lines: string[] = []
  const stream = { write: (line: string) => { lines.push(line) } }
  const app = Fastify({ logger: { ...loggerOptions('error'), stream } })
  const findings: Finding[] = []
  try {
    const started = performance.now()
    await app.register(redisPlugin, { connection })
    const redis = app.redis as Redis
    await reach(redis)
    findings.push(ok('Redis', `reachable in ${Math.round(performance.now() - started)} ms`))
    const nodes = mastersOf(redis)
    findings.push(checkTopology(connection.target, await infoOf(nodes[0] as Node), nodes.length))
    findings.push(await checkRights(redis), await checkWrites(redis))
    for (const node of nodes) {
      const name = nodes.length > 1 ? `Redis ${node.options.host}:${node.options.port}` : 'Redis'
      findings.push(...await checkNode(node, name))
    }
  } catch (error) {
    // The log says why the connection fails. The error of a command says only that there is no connection.
    const cause = [...lines.map((line) => (JSON.parse(line) as { err?: Error }).err), error].find(Boolean)
    findings.push(unreachable(cause))
  } finally {
    await app.close()
  }
  return findings
}
