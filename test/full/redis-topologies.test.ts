import { once } from 'node:events'
import { createServer, type AddressInfo } from 'node:net'
import t, { type Test } from 'tap'
import { failoverSeconds, startCluster, startSentinel } from '../helpers/redis-topologies.js'
import { until } from '../helpers/server-process.js'
import { newPhone, testRedis, testService, type Service } from '../helpers/service.js'

/**
 * Signs in, reads the account, signs out, and is refused. Uses all that is in Redis: codes, limits, pumping guard,
 * revocation.
 */
async function walk (t: Test, service: Service) {
  const { token } = await service.login(newPhone())
  const path = '/api/v1/users/me'
  t.equal((await service.request('GET', path, { token })).status, 200)
  t.equal((await service.request('POST', '/auth/logout', { token })).status, 200)
  t.equal((await service.request('GET', path, { token })).status, 401)
}

const isReady = async ({ request }: Service) => (await request('GET', '/health/ready')).body.status === 'ok'

t.test('the service works on a Redis Cluster and survives the loss of a master', { timeout: 90_000 }, async (t) => {
  const cluster = await startCluster(t)
  const service = await testService(t, { redis: { url: cluster.url, redis: cluster.first.redis } })
  await until(() => isReady(service))
  for (let i = 0; i < 20; i++) await walk(t, service)
  const sizes = await Promise.all(cluster.nodes.slice(0, 3).map(({ redis }) => redis.dbsize()))
  t.ok(sizes.every((size) => size > 0), 'the keys are spread over all masters')

  const phones = Array.from({ length: 12 }, () => newPhone())
  for (const phone of phones) t.equal((await service.send(phone)).status, 200)
  // Without this wait, writes that are not replicated yet would be lost with the master.
  await cluster.first.redis.wait(1, 1000)
  await cluster.first.stop()
  const verify = async (phone: string) => (await service.verify(phone, service.codeOf(phone))).status
  const statuses = await Promise.all(phones.map(verify))
  t.ok(statuses.every((status) => status === 200 || status === 503), statuses.join())
  t.ok(statuses.includes(503), 'some numbers are on the lost master')
  for (const [index, phone] of phones.entries()) {
    let status = statuses[index]
    await until(async () => {
      if (status === 503) status = await verify(phone)
      return status !== 503
    }, failoverSeconds)
    t.equal(status, 200, 'the code sent before still works')
  }
  await walk(t, service)
})

for (const password of [undefined, 'p@ss:word']) {
  const how = password ? 'with' : 'without'
  t.test(`the service follows the master that Sentinel names, ${how} a password`, { timeout: 90_000 }, async (t) => {
    const { master, replica, url } = await startSentinel(t, password)
    const service = await testService(t, { redis: { url, redis: master.redis } })
    await until(() => isReady(service))
    await walk(t, service)
    const phone = newPhone()
    t.equal((await service.send(phone)).status, 200)
    await master.redis.wait(1, 1000)
    await master.stop()
    let status = (await service.verify(phone, service.codeOf(phone))).status
    t.equal(status, 503)
    await until(async () => {
      status = (await service.verify(phone, service.codeOf(phone))).status
      return status !== 503
    }, failoverSeconds)
    t.equal(status, 200, 'the code sent before still works')
    t.match(await replica.redis.info('replication'), /role:master/)
    await walk(t, service)
  })
}

t.test('the service leaves a master that became a replica for the new master', { timeout: 90_000 }, async (t) => {
  const { master, replica, call, url } = await startSentinel(t)
  const service = await testService(t, { redis: { url, redis: master.redis } })
  await until(() => isReady(service))
  await walk(t, service)
  await call('FAILOVER', 'main')
  const hasRole = async ({ redis }: typeof master, role: string) =>
    (await redis.info('replication')).includes(`role:${role}`)
  await until(async () => await hasRole(master, 'slave') && await hasRole(replica, 'master'), failoverSeconds)
  await until(async () => (await service.send(newPhone())).status === 200)
  await walk(t, service)
})

for (const [what, url] of [
  ['a server', (port: number) => `rediss://127.0.0.1:${port}`],
  ['the nodes of a Cluster', (port: number) => `rediss://u:p%40@127.0.0.1:${port},rediss://127.0.0.1:${port}`],
  ['a Sentinel', (port: number) => `redis+sentinel://u:p%40@127.0.0.1:${port}/main?tls=true`]
] as const) {
  t.test(`the service uses nothing but TLS with ${what} whose URL asks for TLS`, async (t) => {
    const handshakeRecord = 22
    const firstBytes: Array<number | undefined> = []
    const server = createServer((socket) => {
      socket.on('error', () => {}).once('data', (data) => {
        firstBytes.push(data[0])
        socket.destroy()
      })
    }).listen(0, '127.0.0.1')
    t.teardown(() => server.close())
    await once(server, 'listening')
    const { redis } = await testRedis(t)
    await testService(t, { redis: { url: url((server.address() as AddressInfo).port), redis } })
    await until(() => firstBytes.length > 0)
    t.ok(firstBytes.every((byte) => byte === handshakeRecord), firstBytes.join())
  })
}
