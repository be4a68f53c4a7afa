import { Redis } from 'ioredis'
import t from 'tap'
import { buildApp } from '../../src/app.js'
import { loadConfig } from '../../src/config/index.js'
import { migrate } from '../../src/db/migrate.js'
import { startRedis, startTestPostgres } from '../helpers/servers.js'
import { testDatabase, testService } from '../helpers/service.js'

t.test('the service is live and ready with both stores', async (t) => {
  const { request } = await testService(t)
  const live = await request('GET', '/health/live')
  t.equal(live.status, 200)
  t.strictSame(live.body, { status: 'ok' })
  const ready = await request('GET', '/health/ready')
  t.equal(ready.status, 200)
  t.strictSame(ready.body, { status: 'ok', checks: { database: 'up', redis: 'up' } })
  t.equal(ready.headers.get('cache-control'), 'no-store')
})

t.test('readiness follows the state of both stores; liveness does not', async (t) => {
  const [postgres, server] = [await startTestPostgres(), await startRedis()]
  t.teardown(() => Promise.all([postgres.remove(), server.stop()]))
  await migrate(postgres.url)
  const redis = new Redis(server.url)
  redis.on('error', () => {})
  t.teardown(() => redis.disconnect())
  const { request, log } = await testService(t,
    { database: { url: postgres.url, sql: async () => [] }, redis: { url: server.url, redis } })
  const is = async (status: number, body: object, shown: string) => {
    const response = await request('GET', '/health/ready')
    t.equal(response.status, status, shown)
    t.strictSame(response.body, body, shown)
    t.equal((await request('GET', '/health/live')).status, 200)
  }
  const ok = { status: 'ok', checks: { database: 'up', redis: 'up' } }
  const degraded = { status: 'degraded', checks: { database: 'up', redis: 'down' } }

  await is(200, ok, 'all there')
  process.kill(server.pid, 'SIGSTOP')
  await is(200, degraded, 'Redis does not respond')
  process.kill(server.pid, 'SIGCONT')
  await is(200, ok, 'it does')
  await postgres.stop()
  await is(503, { status: 'unavailable', checks: { database: 'down', redis: 'up' } }, 'PostgreSQL has stopped')
  await server.stop()
  await is(503, { status: 'unavailable', checks: { database: 'down', redis: 'down' } }, 'both are')
  await postgres.start()
  await is(200, degraded, 'PostgreSQL is back')
  const events = log.map((line) => JSON.parse(line)).filter(({ event }) => /^dependency/.test(event))
  t.strictSame(events.map(({ event, dependency }) => `${event} ${dependency}`), [
    'dependency_down Redis', 'dependency_up Redis', 'dependency_down PostgreSQL', 'dependency_down Redis',
    'dependency_up PostgreSQL'
  ])
})

t.test('clocks of service and database that differ by more than 5 s are logged once', async (t) => {
  let ahead = 4000
  const { request, log } = await testService(t, { overrides: { clock: () => Date.now() + ahead } })
  const told = () => log.map((line) => JSON.parse(line)).filter(({ event }) => event === 'clock_difference')
  const probe = async () => { t.equal((await request('GET', '/health/ready')).status, 200) }
  await probe()
  t.strictSame(told(), [])
  for (const [difference, lines] of [[7000, 1], [7000, 1], [0, 1], [-7000, 2]] as const) {
    ahead = difference
    await probe()
    t.match(told(), Array.from({ length: lines }, () => ({ level: 40, seconds: 7 })))
    t.equal(told().length, lines)
  }
})

t.test('without the table users the service is not ready, logs that once, and becomes ready with it', async (t) => {
  const database = await testDatabase(t, { isEmpty: true })
  const { request, log } = await testService(t, { database })
  for (let probe = 0; probe < 5; probe++) t.equal((await request('GET', '/health/ready')).status, 503)
  t.equal(log.filter((line) => JSON.parse(line).event === 'users_shape').length, 1)
  await migrate(database.url)
  t.equal((await request('GET', '/health/ready')).status, 200)
})

t.test('readiness reports codes in process memory as Redis up', async (t) => {
  const { url } = await testDatabase(t)
  const app = await buildApp(loadConfig({ NODE_ENV: 'development', DATABASE_URL: url, LOG_LEVEL: 'silent' }))
  t.teardown(() => app.close())
  const { statusCode, body } = await app.inject('/health/ready')
  t.equal(statusCode, 200)
  t.strictSame(JSON.parse(body), { status: 'ok', checks: { database: 'up', redis: 'up' } })
})
