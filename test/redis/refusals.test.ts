import { mkdirSync, readdirSync, readFileSync } from 'node:fs'
import { join } from 'node:path'
import { Redis } from 'ioredis'
import t, { type Test } from 'tap'
import { samples } from '../helpers/samples.js'
import { until } from '../helpers/server-process.js'
import { startRedis, temporaryFolder } from '../helpers/servers.js'
import { newPhone, testService, type Service } from '../helpers/service.js'

/** Longest time until the service is degraded after Redis refuses writes (CONTRACT, section 7), on a busy machine. */
const patienceSeconds = 10

async function ownRedis (t: Test, args: string[] = []) {
  const server = await startRedis({ args })
  const redis = new Redis(server.url)
  t.teardown(async () => {
    redis.disconnect()
    await server.stop()
  })
  return { ...server, redis }
}

const readiness = async ({ request }: Service) => (await request('GET', '/health/ready')).body.status as string
const metrics = async ({ app }: Service) => samples(await app.metrics.metrics())
const isUp = async (service: Service) =>
  (await metrics(service)).get('phone_auth_dependency_up{dependency="redis"}') === 1
const events = ({ log }: Service) =>
  log.map((line) => JSON.parse(line)).filter(({ event }) => /^dependency_/.test(event))

/** Uses all that is in Redis: codes, limits, pumping guard, revocation. */
async function walk (t: Test, service: Service) {
  const { token } = await service.login(newPhone())
  t.equal((await service.request('PATCH', '/api/v1/users/me', { token, body: {} })).status, 200)
  t.equal((await service.request('POST', '/auth/logout', { token })).status, 200)
  t.equal((await service.request('GET', '/api/v1/users/me', { token })).status, 401)
}

/** Makes Redis refuse writes and allow them again, and checks what the service reports meanwhile. */
async function refusesAndRecovers (
  t: Test,
  service: Service,
  reason: string,
  message: RegExp,
  refuse: () => Promise<unknown>,
  allow: () => Promise<unknown>
) {
  await walk(t, service)
  t.equal(await readiness(service), 'ok')

  await refuse()
  await until(async () => !await isUp(service), patienceSeconds)
  t.equal(await readiness(service), 'degraded')
  await until(
    async () => (await metrics(service)).get(`phone_auth_redis_unavailable{reason="${reason}"}`) === 1, patienceSeconds
  )
  for (let sends = 0; sends < 3; sends++) t.equal((await service.send(newPhone())).status, 503)
  const logged = events(service)
  t.match(logged.find(({ msg }) => message.test(msg)), { event: 'dependency_down', dependency: 'Redis' })
  t.equal(logged.filter(({ msg }) => message.test(msg)).length, 1)

  await allow()
  await until(() => isUp(service), patienceSeconds)
  t.equal(await readiness(service), 'ok')
  t.equal((await metrics(service)).get(`phone_auth_redis_unavailable{reason="${reason}"}`), 0)
  await walk(t, service)
  t.match(events(service).at(-1), { event: 'dependency_up' })
}

t.test('a Redis with a maxmemory of 1 byte is degraded and recovers by itself', async (t) => {
  const store = await ownRedis(t)
  const service = await testService(t, { redis: store })
  await refusesAndRecovers(
    t, service, 'oom', /memory is full \(OOM\)/, () => store.redis.config('SET', 'maxmemory', '1'),
    () => store.redis.config('SET', 'maxmemory', '0')
  )
})

t.test('a Redis that has become a read-only replica is degraded and recovers by itself', async (t) => {
  const [store, master] = [await ownRedis(t), await ownRedis(t)]
  const service = await testService(t, { redis: store })
  await refusesAndRecovers(
    t, service, 'readonly', /READONLY/, () => store.redis.replicaof('127.0.0.1', master.port),
    () => store.redis.replicaof('NO', 'ONE')
  )
})

t.test('a Redis that cannot save is degraded and recovers by itself', async (t) => {
  const folder = await temporaryFolder()
  t.teardown(folder.remove)
  const store = await ownRedis(t, ['--dir', folder.path, '--enable-protected-configs', 'yes'])
  const service = await testService(t, { redis: store })
  const saves = (status: string) => async () => {
    await store.redis.bgsave().catch(() => undefined)
    await until(
      async () => (await store.redis.info('persistence')).includes(`rdb_last_bgsave_status:${status}`), patienceSeconds
    )
  }
  await refusesAndRecovers(t, service, 'misconf', /MISCONF/, async () => {
    await store.redis.config('SET', 'save', '3600 1')
    // Redis cannot rename its dump file to an existing folder.
    mkdirSync(join(folder.path, 'folder.rdb'))
    await store.redis.config('SET', 'dbfilename', 'folder.rdb')
    await saves('err')()
  }, async () => {
    await store.redis.config('SET', 'dbfilename', 'dump.rdb')
    await saves('ok')()
  })
})

/** The rules of the ACL user in docs/deployment.md. */
const [, documented] = /ACL SETUSER phone-auth on >password (.+)/.exec(readFileSync('docs/deployment.md', 'utf8')) ?? []
const rules = (documented as string).split(' ')

async function serviceWithRules (t: Test, rules: string[]) {
  const store = await ownRedis(t)
  await store.redis.call('ACL', 'SETUSER', 'phone-auth', 'on', '>password', ...rules)
  const service = await testService(t, {
    redis: { url: `redis://phone-auth:password@127.0.0.1:${store.port}/1`, redis: store.redis }
  })
  return { store, service }
}

t.test('the documented ACL user may do all that the service needs', async (t) => {
  const { store, service } = await serviceWithRules(t, rules)
  await walk(t, service)
  t.equal((await service.send(newPhone())).status, 200)
  t.equal(await readiness(service), 'ok')
  t.strictSame(events(service), [])
  t.strictSame(await store.redis.call('ACL', 'LOG'), [])
})

t.test('a Redis user who loses rights makes the service degraded until the rights return', async (t) => {
  const { store, service } = await serviceWithRules(t, rules)
  const setUser = (...rule: string[]) => store.redis.call('ACL', 'SETUSER', 'phone-auth', ...rule)
  await refusesAndRecovers(
    t, service, 'noperm', /lacks rights \(ACL\)/, () => setUser('-@write'), () => setUser('on', ...rules)
  )
})

for (const rule of rules.filter((rule) => /^\+(?!cluster|ping|info|select)/.test(rule))) {
  t.test(`a Redis user without ${rule} makes the service degraded from the start`, async (t) => {
    const { service } = await serviceWithRules(t, rules.filter((other) => other !== rule))
    t.equal(await readiness(service), 'degraded')
    t.match(events(service), [{ event: 'dependency_down', msg: /lacks rights \(ACL\)/ }])
  })
}

t.test('the service works with a Redis user without +info, but does not know the eviction policy', async (t) => {
  const { store, service } = await serviceWithRules(t, rules.filter((rule) => rule !== '+info'))
  await store.redis.config('SET', 'maxmemory-policy', 'allkeys-lru')
  await walk(t, service)
  t.equal(await readiness(service), 'ok')
})

t.test('a Redis user for other keys makes the service degraded from the start', async (t) => {
  const { service } = await serviceWithRules(t, rules.map((rule) => rule === '~phone-auth:*' ? '~other:*' : rule))
  t.equal(await readiness(service), 'degraded')
  t.match(events(service), [{ event: 'dependency_down', msg: /lacks rights \(ACL\)/ }])
})

t.test('a Redis that refuses the password is degraded, and the log shows its reply', async (t) => {
  const store = await ownRedis(t)
  await store.redis.config('SET', 'requirepass', 'right')
  const service = await testService(t, { redis: { url: `redis://:wrong@127.0.0.1:${store.port}`, redis: store.redis } })
  t.equal(await readiness(service), 'degraded')
  t.match(
    events(service)[0], { event: 'dependency_down', msg: 'Redis refuses commands', err: { message: /WRONGPASS/ } }
  )
})

t.test('the probe runs every command that a script uses', async (t) => {
  const commandsOf = (text: string) =>
    new Set([...text.matchAll(/redis\.call\('(\w+)'/g)].map(([, command]) => command as string))
  const sources = (readdirSync('src', { recursive: true, encoding: 'utf8' })).filter((file) => file.endsWith('.ts'))
    .map((file) => join('src', file))
  const probed = commandsOf(readFileSync('src/redis/probe.ts', 'utf8'))
  const used = [...sources, 'node_modules/@fastify/rate-limit/store/RedisStore.js']
    .flatMap((file) => [...commandsOf(readFileSync(file, 'utf8'))])
  t.strictSame(used.filter((command) => !probed.has(command)), [])
  t.strictSame(
    [...probed].filter((command) => !rules.includes(`+${command.toLowerCase()}`)), [],
    'the ACL user may run every command of the probe'
  )
})
