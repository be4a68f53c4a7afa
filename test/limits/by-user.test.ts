import { once } from 'node:events'
import { Agent, request as httpRequest, type IncomingMessage } from 'node:http'
import { connect, type Socket } from 'node:net'
import t, { type Test } from 'tap'
import { problemOf } from '../helpers/responses.js'
import { holdLock } from '../helpers/locks.js'
import { samples } from '../helpers/samples.js'
import { until } from '../helpers/server-process.js'
import { startRedis } from '../helpers/servers.js'
import {
  newPhone, testDatabase, testRedis, testService, type TestResponse, type Json, type Service
} from '../helpers/service.js'

const limit = 20
const me = '/api/v1/users/me'
const base = '/api/v1/profile/addresses'
const address = { title: 'Home', full_address: 'Chuy 1' }
const times = <T>(count: number, make: (index: number) => T) => Array.from({ length: count }, (_, index) => make(index))
const statusesOf = (responses: TestResponse[]) => [...new Set(responses.map(({ status }) => status))].sort()

/** Opens requests that announce a body but do not send it, each on its own connection. */
function opener (t: Test, { url }: Service, token: string) {
  const agent = new Agent({ keepAlive: false })
  t.teardown(() => agent.destroy())
  return (count: number) => times(count, () => {
    const request = httpRequest(url + base, {
      agent,
      method: 'POST',
      headers: { authorization: `Bearer ${token}`, 'content-type': 'application/json', 'content-length': 2 }
    })
    request.on('error', () => {}).flushHeaders()
    const status = once(request, 'response').then(([response]) => (response as IncomingMessage).resume().statusCode,
      () => undefined)
    return { status, finish: () => request.end('[]'), leave: () => request.destroy() }
  })
}

/** Waits until the user has no requests in flight. */
const allFree = ({ request }: Service, token: string) =>
  until(async () =>
    (await Promise.all(times(limit, () => request('GET', me, { token })))).every(({ status }) => status === 200))

t.test('the 21st request in flight of a user is 429 on every route except verify-token', async (t) => {
  const service = await testService(t, { env: { LOG_LEVEL: 'info' } })
  const [{ token, user }, other] = [await service.login(newPhone()), await service.login(newPhone())]
  const open = opener(t, service, token)
  const requests = open(limit + 1)
  t.equal(await Promise.race(requests.map(({ status }) => status)), 429, 'one of 21')
  service.log.length = 0

  for (const [method, path] of [
    ['GET', me], ['PATCH', me], ['GET', base], ['POST', '/api/v1/auth/logout'], ['POST', '/auth/logout']
  ] as const) {
    const response = await service.request(method, path, { token })
    t.strictSame(...problemOf(response, 429, 'Too Many Requests', 'rate_limited', { retry_after: 1 }))
    t.equal(response.headers.get('retry-after'), '1')
  }
  t.match(JSON.parse(service.log[0] as string), { event: 'limit_hit', limit: 'user_in_flight', user_id: user.id })
  t.equal(service.log.length, 5, 'one line per refusal')
  t.equal((await service.request('POST', '/auth/verify-token', { token })).status, 200)
  t.equal((await service.request('GET', me, { token: other.token })).status, 200)
  for (const { finish } of requests) finish()
  t.strictSame((await Promise.all(requests.map(({ status }) => status))).sort(), [...times(limit, () => 422), 429])
  await allFree(service, token)

  for (const { leave } of open(limit)) leave()
  await allFree(service, token)
})

t.test('queued responses count until they are sent or their client disconnects', async (t) => {
  let deliver!: () => void
  const isDelivered = new Promise<void>((resolve) => { deliver = resolve })
  const service: Service = await testService(t, {
    env: { LOG_LEVEL: 'info' },
    overrides: {
      sms: async (message) => {
        service.sms.push(message)
        if (service.sms.length > 1) await isDelivered
      }
    }
  })
  const { token } = await service.login(newPhone())
  const pipeline = () => {
    const body = JSON.stringify({ phone: newPhone() })
    const client = connect(Number(new URL(service.url).port), '127.0.0.1')
    client.write('POST /auth/send-verification HTTP/1.1\r\nHost: h\r\nContent-Type: application/json\r\n' +
      `Content-Length: ${body.length}\r\n\r\n${body}` +
      `GET ${me} HTTP/1.1\r\nHost: h\r\nAuthorization: Bearer ${token}\r\n\r\n`.repeat(limit / 2 + 1))
    return client
  }
  /** Two of the 22 requests are refused. */
  const isFull = () => until(() => service.log.filter((line) => line.includes('user_in_flight')).length === 2)

  const left = [pipeline(), pipeline()]
  await isFull()
  for (const client of left) client.destroy()
  await allFree(service, token)

  service.log.length = 0
  const stayed = [pipeline(), pipeline()]
  await isFull()
  let text = ''
  for (const client of stayed) client.setEncoding('latin1').on('data', (chunk) => { text += chunk })
  deliver()
  await until(() => text.split('HTTP/1.1 200').length - 1 === 2 + limit && text.split('HTTP/1.1 429').length - 1 === 2)
  await allFree(service, token)
  for (const client of stayed) client.destroy()
})

t.test('a request whose client disconnects during the token check changes nothing', async (t) => {
  const database = await testDatabase(t)
  const service = await testService(t, { database })
  const { token } = await service.login(newPhone())
  const lock = await holdLock(t, database.url, 'LOCK TABLE users')
  const client = connect(Number(new URL(service.url).port), '127.0.0.1')
  const [socket] = await once(service.app.server, 'connection') as [Socket]
  client.write(`DELETE ${me} HTTP/1.1\r\nHost: h\r\nAuthorization: Bearer ${token}\r\n\r\n`)
  await lock.isAwaited()
  client.destroy()
  await once(socket, 'close')

  await lock.release()
  t.equal((await service.request('PATCH', me, { token, body: { full_name: 'A B' } })).status, 200)
  t.equal((await service.request('GET', me, { token })).status, 200)
})

t.test('all replicas count the writes of a user together and refuse them beyond the limit', async (t) => {
  const [database, redis] = [await testDatabase(t), await testRedis(t)]
  const env = {
    RATE_LIMIT_USER_MAX: '4', RATE_LIMIT_USER_WINDOW_SECONDS: '50', METRICS_PORT: '9464', LOG_LEVEL: 'info'
  }
  const first = await testService(t, { database, redis, env })
  const second = await testService(t, { database, redis, env: { ...env, JWT_SECRET: first.env.JWT_SECRET as string } })
  const [{ token, user }, other] = [await first.login(newPhone()), await first.login(newPhone())]

  const { body: { address: { id } } } = await first.request('POST', base, { token, body: address })
  const responses = [
    await second.request('PATCH', me, { token, body: {} }),
    await first.request('PUT', `${base}/${id}`, { token, body: {} }),
    await second.request('DELETE', `${base}/${id}`, { token })
  ]
  const budgets = responses.map(({ status, headers }) =>
    [status, headers.get('ratelimit-limit'), headers.get('ratelimit-remaining')])
  t.strictSame(budgets, [[200, '4', '2'], [200, '4', '1'], [200, '4', '0']])
  t.ok(responses.every(
    ({ headers }) => Number(headers.get('ratelimit-reset')) > 0 && Number(headers.get('ratelimit-reset')) <= 50))

  first.log.length = 0
  const refused = await first.request('POST', '/auth/logout', { token })
  t.strictSame(...problemOf(refused, 429, 'Too Many Requests', 'rate_limited',
    { retry_after: refused.body.retry_after }))
  t.equal(refused.headers.get('retry-after'), String(refused.body.retry_after))
  t.equal(refused.headers.get('retry-after'), refused.headers.get('ratelimit-reset'))
  t.match(first.log.map((line) => JSON.parse(line)), [{ event: 'limit_hit', limit: 'user_writes', user_id: user.id }])
  t.equal(first.log.length, 1)
  t.equal(samples(await first.app.metrics.metrics()).get(
    'phone_auth_refused_total{reason="rate_limited",market="unknown"}'), 1)

  t.equal((await second.request('GET', me, { token })).status, 200)
  t.equal((await second.request('GET', me, { token })).headers.has('ratelimit-limit'), false)
  t.equal((await second.request('POST', '/auth/verify-token', { token })).status, 200)
  t.equal((await second.request('PATCH', me, { token: other.token, body: {} })).status, 200)
  const keys = await redis.redis.keys('phone-auth:writes:*')
  t.strictSame(keys.sort(), [user, other.user].map(({ id }) => `phone-auth:writes:${id}`).sort())
  for (const key of keys) t.ok(await redis.redis.pttl(key) > 0)
})

t.test('in development without REDIS_URL, writes of a user are counted in memory', async (t) => {
  const service = await testService(t, { env: { NODE_ENV: 'development', REDIS_URL: '', RATE_LIMIT_USER_MAX: '1' } })
  const { token } = await service.login(newPhone())

  const write = async () => (await service.request('PATCH', me, { token, body: {} })).status
  t.strictSame([await write(), await write()], [200, 429])
})

t.test('while Redis does not respond or is unavailable, writes per user are not limited', async (t) => {
  const server = await startRedis()
  t.teardown(() => server.stop())
  const { redis } = await testRedis(t)
  const service = await testService(t, { redis: { url: server.url, redis }, env: { RATE_LIMIT_USER_MAX: '1' } })
  const { token } = await service.login(newPhone())
  const write = async () => {
    const { status, headers } = await service.request('PATCH', me, { token, body: {} })
    return [status, headers.get('ratelimit-limit')]
  }
  t.strictSame([await write(), await write()], [[200, '1'], [429, '1']])

  process.kill(server.pid, 'SIGSTOP')
  t.strictSame([await write(), await write()], [[200, null], [200, null]])
  process.kill(server.pid, 'SIGCONT')
  await server.stop()
  t.strictSame([await write(), await write()], [[200, null], [200, null]])
})

t.test('300 writes of one user at once do not delay the checks and logins of other users', async (t) => {
  const service = await testService(t, { env: { RATE_LIMIT_USER_MAX: '300' } })
  const [{ token }, other] = [await service.login(newPhone()), await service.login(newPhone())]

  const writes = Promise.all(times(300, (n) => n % 2
    ? service.request('POST', base, { token, body: { ...address, is_default: true } })
    : service.request('PATCH', me, { token, body: { full_name: `A ${n}` } })))
  const durations: number[] = []
  for (let round = 0; round < 40; round++) {
    const start = performance.now()
    t.equal((await service.request('GET', '/auth/verify-token', { token: other.token })).status, 200)
    durations.push(performance.now() - start)
  }
  t.ok(await service.login(newPhone()))
  t.comment(`the slowest of 40 checks took ${Math.round(Math.max(...durations))} ms`)
  t.ok(Math.max(...durations) < 5000)
  const responses = await writes
  t.ok(responses.some(({ status }) => status === 200) && responses.some(({ status }) => status === 201))
  // On a busy machine some writes time out before their turn.
  t.ok(responses.every(({ status }) => [200, 201, 409, 429, 503].includes(status)), `${statusesOf(responses)}`)
})

t.test('100 address writes of one user at once do not delay checks, reads and logins of 10 others', async (t) => {
  const service = await testService(t)
  const { token } = await service.login(newPhone())
  const phones = times(10, () => newPhone())
  const others = await Promise.all(phones.map((phone) => service.login(phone)))

  const writes = Promise.all(times(100, () => service.request('POST', base, { token, body: address })))
  const checks = others.flatMap(
    (other) => ['/auth/verify-token', me, base].map((path) => service.request('GET', path, { token: other.token })))
  const logins = times(10, () => service.login(newPhone()))
  t.strictSame(statusesOf(await Promise.all(checks)), [200])
  t.equal((await Promise.all(logins)).length, 10)
  t.match(statusesOf(await writes), [201, 429])
})

t.test('a row that another system has locked delays only its user', async (t) => {
  const database = await testDatabase(t)
  const service = await testService(t, { database })
  const [{ token, user }, other] = [await service.login(newPhone()), await service.login(newPhone())]
  const lock = await holdLock(t, database.url, 'SELECT FROM users WHERE id = $1 FOR UPDATE', [user.id])
  const waiting = Promise.all(times(limit, (n) => [
    () => service.request('PATCH', me, { token, body: { full_name: 'A B' } }),
    () => service.request('POST', base, { token, body: address }),
    () => service.request('POST', '/auth/logout', { token }),
    () => service.request('DELETE', me, { token })
  ][n % 4]?.() as Promise<TestResponse>))
  await lock.isAwaited()

  const { request } = service
  t.equal((await request('GET', '/auth/verify-token', { token })).status, 200)
  t.strictSame(statusesOf(await Promise.all([
    ...times(20, () => request('GET', '/auth/verify-token', { token: other.token })),
    ...times(4, () => request('GET', me, { token: other.token })),
    ...times(4, () => request('PATCH', me, { token: other.token, body: {} })),
    ...times(4, () => request('GET', base, { token: other.token }))
  ])), [200])
  t.equal((await request('POST', base, { token: other.token, body: address })).status, 201)
  t.ok(await service.login(newPhone()))
  const [{ count }] = await service.sql(`SELECT count(*)::int FROM pg_stat_activity
    WHERE datname = current_database() AND wait_event_type = 'Lock'`) as [Json]
  // One connection, and those whose statement timed out in the service.
  t.ok(count < limit / 2, `${count} connections wait for the row lock`)
  t.strictSame(statusesOf(await waiting), [503])
  await lock.release()
  t.equal((await request('PATCH', me, { token, body: {} })).status, 200)
})
