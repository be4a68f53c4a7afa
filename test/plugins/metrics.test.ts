import { once } from 'node:events'
import { readFileSync } from 'node:fs'
import { createServer, type AddressInfo } from 'node:net'
import t, { type Test } from 'tap'
import { SmsRefused } from '../../src/messages/index.js'
import { freePort } from '../helpers/free-port.js'
import { head, rawRequest } from '../helpers/raw.js'
import { samples } from '../helpers/samples.js'
import { listening, logLines, smsWebhook, startProcess, until } from '../helpers/server-process.js'
import { startRedis } from '../helpers/servers.js'
import {
  checkLog, newPhone, productionEnv, testDatabase, testRedis, testService, type Service
} from '../helpers/service.js'

/** Turns metrics on. An app that is built without serve() opens no listener for them. */
const on = { METRICS_PORT: '9464' }
const read = async ({ app }: Service) => samples(await app.metrics.metrics())
const requests = 'phone_auth_http_request_seconds_count'

t.test('requests are counted by route, method and status; unknown paths and methods are one series', async (t) => {
  const service = await testService(t, { env: on })
  const { token } = await service.login(newPhone())
  for (let round = 0; round < 3; round++) {
    await service.request('GET', `/auth/verify-token/orders/${round}?q=${round}`, { token })
  }
  await service.request('GET', '/auth/verify-token')
  for (const path of ['/nowhere', '/a/b', '/api/v1/users/17']) await service.request('GET', path)
  await service.request('GET', '/api/v1/profile/addresses/77', { token })
  for (const method of ['PROPFIND', 'MKCOL', 'LOCK']) await rawRequest(service.url, head(`${method} /auth/markets`))
  const metrics = await read(service)
  const counted = Object.fromEntries([...metrics].filter(([name]) => name.startsWith(requests)).map(
    ([name, value]) => [name.slice(requests.length), value]
  ))
  t.strictSame(counted, {
    '{route="/api/v1/auth/send-verification",method="POST",status="200"}': 1,
    '{route="/api/v1/auth/verify-code",method="POST",status="200"}': 1,
    '{route="/auth/verify-token",method="GET",status="200"}': 3,
    '{route="/auth/verify-token",method="GET",status="401"}': 1,
    '{route="unknown",method="GET",status="404"}': 3,
    '{route="/api/v1/profile/addresses/:id",method="GET",status="404"}': 1,
    '{route="/auth/markets",method="unknown",status="405"}': 3
  })
})

t.test('the buckets of a histogram grow to its count, and its sum is the time taken', async (t) => {
  const service = await testService(t, { env: on })
  for (let round = 0; round < 5; round++) await service.request('GET', '/auth/markets')
  const metrics = await read(service)
  const labels = 'route="/auth/markets",method="GET",status="200"'
  const buckets = [...metrics].filter(
    ([name]) => name.startsWith(`phone_auth_http_request_seconds_bucket{${labels},le=`)
  ).map(([, value]) => value)
  t.equal(buckets.length, 14)
  t.strictSame(buckets, [...buckets].sort((a, b) => a - b))
  t.equal(metrics.get(`phone_auth_http_request_seconds_bucket{${labels},le="+Inf"}`), 5)
  t.equal(metrics.get(`${requests}{${labels}}`), 5)
  const sum = metrics.get(`phone_auth_http_request_seconds_sum{${labels}}`) as number
  t.ok(sum > 0 && sum < 60)
})

/** The values of one metric by its labels, without those that are 0. */
const of = (metrics: Map<string, number>, metric: string) =>
  Object.fromEntries([...metrics].filter(
    ([name, value]) => name.startsWith(`${metric}{`) && value > 0
  ).map(([name, value]) => [name.slice(metric.length), value]))

t.test('codes are counted as sent, verified or refused, by reason and market', async (t) => {
  const start = Date.now()
  let [refuses, later] = [false, 0]
  const service: Service = await testService(t, {
    env: { ...on, RATE_LIMIT_IP_MAX: '11', CODE_SENDS_PER_HOUR: '1', CODE_RESEND_SECONDS: '1' },
    overrides: {
      clock: () => start + later,
      sms: async (message) => {
        if (refuses) throw new SmsRefused('no')
        service.sms.push(message)
      }
    }
  })
  const [kg, us] = [newPhone(), newPhone('us')]
  await service.login(kg)
  await service.login(us)
  later = 2000
  await service.send(kg)
  await service.send(kg)
  later = 4000
  await service.send(kg)
  await service.verify(kg, service.codeOf(kg) === '000000' ? '000001' : '000000')
  refuses = true
  await service.send(newPhone('us'))
  for (let round = 0; round < 3; round++) await service.send(newPhone())
  const metrics = await read(service)
  t.strictSame(of(metrics, 'phone_auth_codes_sent_total'), { '{market="kg"}': 2, '{market="us"}': 1 })
  t.strictSame(of(metrics, 'phone_auth_codes_verified_total'), { '{market="kg"}': 1, '{market="us"}': 1 })
  t.strictSame(of(metrics, 'phone_auth_refused_total'), {
    '{reason="resend_too_soon",market="kg"}': 1,
    '{reason="too_many_sends",market="kg"}': 1,
    '{reason="invalid_code",market="kg"}': 1,
    '{reason="sms_failed",market="us"}': 1,
    '{reason="sms_failed",market="kg"}': 2,
    '{reason="rate_limited",market="unknown"}': 1
  })
})

t.test('a login that has to wait for the clock counts as rate_limited', async (t) => {
  const phone = newPhone('us')
  const service = await testService(t, { env: on })
  await service.sql(`INSERT INTO users (phone_number, is_active, last_login)
    VALUES ($1, FALSE, (now() AT TIME ZONE 'utc') + interval '45 seconds')`, [phone])
  await service.send(phone)
  t.match(await service.verify(phone, service.codeOf(phone)), { status: 429, body: { code: 'rate_limited' } })
  t.strictSame(of(await read(service), 'phone_auth_refused_total'), { '{reason="rate_limited",market="us"}': 1 })
})

t.test('each decision of the pumping guard is counted, and an enforced one also as a refusal', async (t) => {
  const guard = { SMS_GUARD_BLOCK_SENDS: '1', SMS_GUARD_MIN_VERIFIED_PERCENT: '100' }
  for (const [mode, refused] of [['enforce', { '{reason="sms_guard",market="kg"}': 1 }], ['observe', {}]] as const) {
    const service = await testService(t, { env: { ...on, ...guard, SMS_GUARD: mode } })
    await service.send('+996555990001')
    await service.send('+996555990002')
    const metrics = await read(service)
    t.strictSame(of(metrics, 'phone_auth_sms_guard_total'), { [`{scope="block",market="kg",mode="${mode}"}`]: 1 })
    t.strictSame(of(metrics, 'phone_auth_refused_total'), refused)
  }
})

t.test('every counter of sends and refusals begins at 0 for every label value', async (t) => {
  const service = await testService(t, { env: on })
  const metrics = await read(service)
  const series = (metric: string) => [...metrics].filter(([name]) => name.startsWith(`${metric}{`))
  for (const [metric, count] of [
    ['phone_auth_codes_sent_total', 2], [
      'phone_auth_codes_verified_total', 2
    ], ['phone_auth_refused_total', 24], ['phone_auth_sms_guard_total', 16]
  ] as const) {
    t.equal(series(metric).length, count, metric)
    t.ok(series(metric).every(([, value]) => value === 0), metric)
  }
  t.equal(metrics.get('phone_auth_sms_guard_total{scope="daily",market="us",mode="enforce"}'), 0)
})

t.test('build_info has the version of package.json and of Node', async (t) => {
  const service = await testService(t)
  const { version } = JSON.parse(readFileSync('package.json', 'utf8')) as { version: string }

  t.strictSame(
    of(await read(service), 'phone_auth_build_info'), { [`{version="${version}",node="${process.version}"}`]: 1 }
  )
})

t.test('only responses of 500 count as internal errors, from 0', async (t) => {
  let isBroken = false
  const newNonce = () => {
    if (isBroken) throw new Error('a bug')
    return 'nonce-of-16-chars'
  }
  const service = await testService(t, { env: on, overrides: { newNonce } })
  const counted = async () => (await read(service)).get('phone_auth_internal_errors_total')

  t.equal(await counted(), 0)
  await service.request('GET', '/api/v1/users/me')
  await service.send(newPhone())
  t.equal(await counted(), 0)
  isBroken = true
  t.equal((await service.send(newPhone())).status, 500)
  t.equal(await counted(), 1)
})

t.test('metrics count the statements of the active check and show the state of the pool and both stores', async (t) => {
  const server = await startRedis()
  t.teardown(() => server.stop())
  const { redis } = await testRedis(t)
  const service = await testService(t, { env: { ...on, DATABASE_POOL_MAX: '7' }, redis: { url: server.url, redis } })
  const { token } = await service.login(newPhone())
  for (let round = 0; round < 3; round++) await service.request('GET', '/auth/verify-token', { token })
  const before = await read(service)
  t.equal(before.get('phone_auth_active_check_users_count'), 3)
  t.equal(before.get('phone_auth_active_check_users_sum'), 3)
  t.equal(before.get('phone_auth_active_check_users_bucket{le="1"}'), 3)
  t.equal(before.get('phone_auth_active_check_seconds_count'), 3)
  t.equal(before.get('phone_auth_database_connections_max'), 7)
  t.ok(before.get('phone_auth_database_connections') as number >= 1)
  t.equal(before.get('phone_auth_database_connections_idle'), before.get('phone_auth_database_connections'))
  t.equal(before.get('phone_auth_database_waiting'), 0)
  t.strictSame(of(before, 'phone_auth_dependency_up'), { '{dependency="postgresql"}': 1, '{dependency="redis"}': 1 })
  await server.stop()
  await service.request('GET', '/health/ready')
  t.strictSame(of(await read(service), 'phone_auth_dependency_up'), { '{dependency="postgresql"}': 1 })
})

t.test('no metric shows a number, a code, an id or a token', async (t) => {
  const service = await testService(t, { env: on })
  const { token, user } = await service.login(newPhone())
  await service.request('GET', `/api/v1/users/${user.id}`, { token })
  await service.request('GET', `/auth/verify-token/${token}`, { token })
  const text = await service.app.metrics.metrics()
  checkLog(text, service.confidential)
  t.notMatch(text, /\+?\d{7,}"/)
})

t.test('every metric has a valid name and type, and docs/operations.md lists all metrics of the service', async (t) => {
  const service = await testService(t, { env: on })
  const metrics = await service.app.metrics.getMetricsAsJSON()
  for (const { name, type, help } of metrics) {
    t.equal(name.endsWith('_total'), String(type) === 'counter', name)
    t.match(name, /^[a-z][a-z0-9_]*$/)
    t.ok(help)
  }
  const documented = readFileSync('docs/operations.md', 'utf8').split('\n')
    .filter((line) => line.startsWith('| `phone_auth_'))
    .flatMap((line) => [...(line.split('|')[1] as string).matchAll(/`(…?)(\w+)`/g)]
      .map(([, isSuffix, name]) => isSuffix ? `phone_auth_database_connections${name}` : name))
  const own = metrics.map(({ name }) => name).filter((name) => name.startsWith('phone_auth_'))
  t.strictSame(documented.sort(), own.sort())
  t.ok(metrics.some(({ name }) => name === 'nodejs_eventloop_lag_p99_seconds'))
  t.ok(metrics.some(({ name }) => name === 'process_resident_memory_bytes'))
})

t.test('no request is measured with METRICS_PORT=0', async (t) => {
  const service = await testService(t)
  await service.request('GET', '/auth/markets')
  t.notMatch(await service.app.metrics.metrics(), /phone_auth_http_request_seconds|process_/)
})

/** Starts a server in production. Returns the server and the URL of its metrics. */
async function startServer (t: Test, env: Record<string, string> = {}) {
  const [database, redis, webhook] = [await testDatabase(t), await testRedis(t), await smsWebhook(t)]
  const metricsPort = await freePort()
  const server = startProcess(t, 'server', {
    env: {
      ...productionEnv(database.url, redis.url),
      SMS_WEBHOOK_URL: webhook.url,
      METRICS_PORT: String(metricsPort),
      ...env
    }
  })
  return { server, metricsUrl: `http://127.0.0.1:${metricsPort}` }
}

t.test('metrics have a listener of their own and are not on that of the service', async (t) => {
  const { server, metricsUrl } = await startServer(t)
  const url = await listening(server)
  const response = await fetch(`${metricsUrl}/metrics?x=1`)
  t.equal(response.status, 200)
  t.equal(response.headers.get('content-type'), 'text/plain; version=0.0.4; charset=utf-8')
  t.match(await response.text(), /^phone_auth_database_connections_max 10$/m)
  for (const path of ['/', '/metrics/', '/health/live']) t.equal((await fetch(metricsUrl + path)).status, 404)
  t.equal((await fetch(`${metricsUrl}/metrics`, { method: 'POST' })).status, 404)
  t.equal((await fetch(`${url}/metrics`)).status, 404)
})

t.test('a METRICS_PORT in use ends the process with 1 and one line, with and without workers', async (t) => {
  const taken = createServer().listen(0, '127.0.0.1')
  t.teardown(() => taken.close())
  await once(taken, 'listening')
  const { port } = taken.address() as AddressInfo
  for (const WEB_CONCURRENCY of ['1', '2']) {
    const { server } = await startServer(t, { WEB_CONCURRENCY, METRICS_PORT: String(port) })
    const { code, stderr } = await server.closed
    t.equal(code, 1)
    t.match(stderr, /^phone-auth: METRICS_PORT .*\n$/)
  }
})

t.test('the metrics of several workers are their sum, and 503 while a worker does not respond', async (t) => {
  const { server, metricsUrl } = await startServer(t, { WEB_CONCURRENCY: '2' })
  const url = await listening(server)
  let asked = 0
  const workers = () => [...new Set(logLines(server.stdout)
    .filter(({ event }) => event === 'answer').map(({ pid }) => pid as number))]
  await until(async () => {
    asked++
    await (await fetch(`${url}/health/live`, { headers: { connection: 'close' } })).text()
    return workers().length === 2
  })
  const metrics = samples(await (await fetch(`${metricsUrl}/metrics`)).text())
  t.equal(metrics.get(`${requests}{route="/health/live",method="GET",status="200"}`), asked)
  t.equal(metrics.get('phone_auth_database_connections_max'), 20)
  t.equal(metrics.get('phone_auth_dependency_up{dependency="redis"}'), 1)

  const [frozen] = workers() as [number]
  process.kill(frozen, 'SIGSTOP')
  t.equal((await fetch(`${metricsUrl}/metrics`)).status, 503)
  process.kill(frozen, 'SIGCONT')
  t.equal((await fetch(`${metricsUrl}/metrics`)).status, 200)
})
