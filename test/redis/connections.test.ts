import { Redis } from 'ioredis'
import t, { type Test } from 'tap'
import { buildApp } from '../../src/app.js'
import { loadConfig } from '../../src/config/index.js'
import { privateCa } from '../helpers/certificates.js'
import { freePort } from '../helpers/free-port.js'
import { until } from '../helpers/server-process.js'
import { startRedis, temporaryFolder } from '../helpers/servers.js'
import { newPhone, productionEnv, testDatabase, testRedis, testService, type Service } from '../helpers/service.js'

const readiness = async ({ request }: Service) => (await request('GET', '/health/ready')).body.status as string
const lines = ({ log }: Service) => log.map((line) => JSON.parse(line))

async function walk (t: Test, service: Service) {
  const { token } = await service.login(newPhone())
  t.equal((await service.request('POST', '/auth/logout', { token })).status, 200)
  t.equal((await service.request('GET', '/api/v1/users/me', { token })).status, 401)
}

async function ownRedis (t: Test, options: Parameters<typeof startRedis>[0] = {}) {
  const server = await startRedis(options)
  const redis = new Redis(server.url)
  redis.on('error', () => {})
  t.teardown(async () => {
    redis.disconnect()
    await server.stop()
  })
  return { ...server, redis }
}

async function clusterArgs (t: Test) {
  const folder = await temporaryFolder()
  t.teardown(folder.remove)
  return [
    '--cluster-enabled', 'yes', '--cluster-port', String(await freePort()), '--cluster-announce-ip', '127.0.0.1',
    '--dir', folder.path
  ]
}

t.test('the service trusts a Redis with a certificate of a private CA only with REDIS_CA_FILE', async (t) => {
  const [{ ca, certificate, key }, tlsPort] = [await privateCa(t), await freePort()]
  const store = await ownRedis(t, {
    args: [
      '--tls-port', String(tlsPort), '--tls-cert-file', certificate, '--tls-key-file', key, '--tls-ca-cert-file', ca,
      '--tls-auth-clients', 'no'
    ]
  })
  const serviceWith = (host: string, env: Record<string, string>) =>
    testService(t, { redis: { url: `rediss://${host}:${tlsPort}`, redis: store.redis }, env })

  for (const host of ['127.0.0.1', 'localhost']) await walk(t, await serviceWith(host, { REDIS_CA_FILE: ca }))
  await walk(t, await serviceWith('127.0.0.1', { REDIS_TLS_VERIFY: 'false' }))
  t.equal(await readiness(await serviceWith('127.0.0.1', {})), 'degraded')
  t.equal(await readiness(await serviceWith('127.0.0.1', { REDIS_CA_FILE: (await privateCa(t)).ca })), 'degraded')
})

t.test('every key begins with REDIS_PREFIX, and services with different prefixes share no state', async (t) => {
  const store = await testRedis(t)
  const one = await testService(t, { redis: store, env: { REDIS_PREFIX: 'one/', SMS_MARKET_DAILY_MAX: '1000' } })
  const phone = newPhone()
  await walk(t, one)
  await one.send(phone)
  const token = (await one.login(newPhone())).token
  t.equal((await one.request('PATCH', '/api/v1/users/me', { token, body: {} })).status, 200)

  const kinds = new Set((await store.redis.keys('*')).map((key) => key.split(':')[0]))
  kinds.delete('one/probe')
  t.strictSame(
    [...kinds].sort(), ['one/address', 'one/code', 'one/daily', 'one/guard', 'one/guesses', 'one/logout', 'one/writes']
  )
  const other = await testService(t, {
    redis: store, database: one.database, env: { ...one.env, REDIS_PREFIX: 'other/' }
  })
  other.confidential.add(phone)
  t.equal((await other.verify(phone, one.codeOf(phone))).body.code, 'invalid_code')
  t.equal((await one.verify(phone, one.codeOf(phone))).status, 200)
})

t.test('the service does not start with a database number that the Redis server does not have', async (t) => {
  const store = await ownRedis(t)
  const env = productionEnv((await testDatabase(t)).url, `${store.url}/5000`)
  await t.rejects(buildApp(loadConfig({ ...env, LOG_LEVEL: 'silent' })), {
    message: /^REDIS_URL names a database that the server does not have/
  })
})

t.test('a Redis that starts later and lacks the database is not used', async (t) => {
  const port = await freePort()
  const service = await testService(t, {
    redis: { url: `redis://127.0.0.1:${port}/5000`, redis: (await testRedis(t)).redis }
  })
  const store = await ownRedis(t, { port })

  await until(
    () => lines(service).some(({ event, err }) => event === 'dependency_down' && /DB index/.test(err?.message))
  )
  t.equal((await service.send(newPhone())).status, 503)
  t.equal(await readiness(service), 'degraded')
  t.equal(await store.redis.dbsize(), 0)
})

t.test('one URL of a server in cluster mode is used as a Cluster, even if the server starts later', async (t) => {
  const port = await freePort()
  const start = async () => {
    const store = await ownRedis(t, { port, args: await clusterArgs(t) })
    await store.redis.call('CLUSTER', 'ADDSLOTSRANGE', 0, 16383)
    await until(async () => String(await store.redis.call('CLUSTER', 'INFO')).includes('cluster_state:ok'))
    return store
  }
  const url = `redis://127.0.0.1:${port}`
  const { redis } = await testRedis(t)
  const early = await testService(t, { redis: { url, redis } })
  t.equal(await readiness(early), 'degraded')

  await start()
  await until(async () => await readiness(early) === 'ok')
  await walk(t, early)
  t.equal(early.app.redis?.isCluster, true)
  const late = await testService(t, { redis: { url, redis } })
  t.equal(late.app.redis?.isCluster, true)
  await walk(t, late)
})

t.test('the service does not start with a database number for a server in cluster mode', async (t) => {
  const store = await ownRedis(t, { args: await clusterArgs(t) })
  const env = productionEnv((await testDatabase(t)).url, `${store.url}/1`)
  await t.rejects(buildApp(loadConfig({ ...env, LOG_LEVEL: 'silent' })), {
    message: /in cluster mode there is only database 0/
  })
})

for (const [policy, count] of [['noeviction', 0], ['allkeys-lru', 1], ['volatile-ttl', 1]] as const) {
  t.test(`maxmemory-policy ${policy} makes ${count} warnings in the log`, async (t) => {
    const store = await ownRedis(t, { args: ['--maxmemory-policy', policy] })
    const service = await testService(t, { redis: store })
    await store.redis.call('CLIENT', 'KILL', 'TYPE', 'NORMAL', 'SKIPME', 'YES')
    await until(async () => await readiness(service) === 'ok')
    const warnings = lines(service).filter(({ event }) => event === 'redis_eviction')
    t.strictSame(
      warnings.map(({ level, policy }) => [level, policy]), Array.from({ length: count }, () => [40, policy])
    )
  })
}
