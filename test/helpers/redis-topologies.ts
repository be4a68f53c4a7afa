import { writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { Redis } from 'ioredis'
import type { Test } from 'tap'
import { freePort } from './free-port.js'
import { until } from './server-process.js'
import { startRedis, temporaryFolder } from './servers.js'

/** Longest time for a failover on a busy machine. */
export const failoverSeconds = 25

/** Starts a Redis server in a folder of its own. Returns the server and a client of it. */
async function startNode (t: Test, args: string[], password?: string) {
  const folder = await temporaryFolder()
  // A Sentinel stores its state in its configuration file.
  const configFile = join(folder.path, 'redis.conf')
  await writeFile(configFile, '')
  const server = await startRedis({ configFile, password, args: ['--dir', folder.path, ...args] })
  const redis = new Redis(server.url, { ...(password && { password }) })
  redis.on('error', () => {})
  t.teardown(async () => {
    redis.disconnect()
    await server.stop()
    await folder.remove()
  })
  return { ...server, redis }
}

/** Starts three masters that share the slots. The first one has a replica. */
export async function startCluster (t: Test) {
  const start = async () => startNode(t, [
    '--cluster-enabled', 'yes', '--cluster-node-timeout', '3000', '--cluster-port', String(await freePort()),
    '--cluster-replica-validity-factor', '0'
  ])
  const nodes = await Promise.all(Array.from({ length: 4 }, start))
  const [first, second, third, replica] = nodes as [typeof nodes[0], typeof nodes[0], typeof nodes[0], typeof nodes[0]]
  for (const [index, { redis }] of [first, second, third].entries()) {
    await redis.call('CLUSTER', 'ADDSLOTSRANGE', Math.ceil(index * 16384 / 3), Math.ceil((index + 1) * 16384 / 3) - 1)
  }
  const busPort = async ({ redis }: typeof first) => (await redis.config('GET', 'cluster-port') as [string, string])[1]
  const meet = async () => {
    for (const other of [second, third, replica]) {
      await first.redis.call('CLUSTER', 'MEET', '127.0.0.1', other.port, await busPort(other))
    }
  }
  const info = async ({ redis }: typeof first) => String(await redis.call('CLUSTER', 'INFO'))
  await until(async () => {
    // A node that does not shake hands within the node timeout, for example on a busy machine, is forgotten for good.
    if (/cluster_known_nodes:[1-3]\b/.test(await info(first))) await meet()
    return (await Promise.all(nodes.map(info)))
      .every((text) => text.includes('cluster_known_nodes:4') && text.includes('cluster_state:ok'))
  }, failoverSeconds)
  await replica.redis.call('CLUSTER', 'REPLICATE', String(await first.redis.call('CLUSTER', 'MYID')))
  await until(async () => (await replica.redis.info('replication')).includes('master_link_status:up'))
  return { nodes, first, replica, url: [second, third].map(({ port }) => `redis://localhost:${port}`).join() }
}

/** Starts one master, one replica, and a Sentinel that watches them. */
export async function startSentinel (t: Test, password?: string) {
  const auth = password ? ['--masterauth', password] : []
  const master = await startNode(t, auth, password)
  const replica = await startNode(t, [...auth, '--replicaof', `127.0.0.1 ${master.port}`], password)
  await until(async () => (await replica.redis.info('replication')).includes('master_link_status:up'))
  const { redis: sentinel, port } = await startNode(t, ['--sentinel'], password)
  const call = (...args: [string, ...Array<string | number>]) => sentinel.call('SENTINEL', ...args)
  await call('DEBUG', 'info-period', 200, 'ping-period', 100)
  await call('MONITOR', 'main', '127.0.0.1', master.port, 1)
  if (password) await call('SET', 'main', 'auth-pass', password)
  await call('SET', 'main', 'down-after-milliseconds', 500)
  await call('SET', 'main', 'failover-timeout', 2000)
  const isGood = (replicas: unknown) => JSON.stringify(replicas).includes('"master-link-status","ok"')
  await until(async () => isGood(await call('REPLICAS', 'main')))
  const credentials = password ? `:${encodeURIComponent(password)}@` : ''
  return { master, replica, call, url: `redis+sentinel://${credentials}127.0.0.1:${port}/main` }
}
