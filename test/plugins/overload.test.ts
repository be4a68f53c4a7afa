import { once } from 'node:events'
import { Agent, request as httpRequest, type ClientRequest, type IncomingMessage } from 'node:http'
import { connect, type Socket } from 'node:net'
import { json } from 'node:stream/consumers'
import t, { type Test } from 'tap'
import { migrate } from '../../src/db/migrate.js'
import { maxInFlight } from '../../src/plugins/overload.js'
import { holdLock } from '../helpers/locks.js'
import { isRunning, until } from '../helpers/server-process.js'
import { startTestPostgres } from '../helpers/servers.js'
import { newPhone, testDatabase, testService, type Json, type Service } from '../helpers/service.js'

const inFlight = async ({ app }: Service) => (await app.metrics.getSingleMetric('phone_auth_http_requests_in_flight')?.get())?.values[0]?.value

/** Opens a connection for every request; a body of two bytes is announced where there is one, and not sent. */
function opener (t: Test, { url }: Service, token: string) {
  const agent = new Agent({ keepAlive: false })
  t.teardown(() => agent.destroy())
  return (method: string, path: string, hasBody = false) => {
    const request = httpRequest(url + path, {
      agent,
      method,
      headers: { authorization: `Bearer ${token}`, ...(hasBody && { 'content-type': 'application/json', 'content-length': 2 }) }
    })
    if (hasBody) request.flushHeaders()
    else request.end()
    return request
  }
}

async function answerOf (request: ClientRequest) {
  const [response] = await once(request, 'response') as [IncomingMessage]
  return { status: response.statusCode, type: response.headers['content-type'], retryAfter: response.headers['retry-after'], body: await json(response) as Json }
}

/** Makes many requests, some at a time, for no listener takes thousands of connections at once; returns the answers to come. */
async function flood (count: number, open: () => ClientRequest) {
  const requests: ClientRequest[] = []
  const answers: Array<Promise<Awaited<ReturnType<typeof answerOf>> | undefined>> = []
  while (requests.length < count) {
    await Promise.all(Array.from({ length: 100 }, async () => {
      const request = open()
      requests.push(request)
      answers.push(answerOf(request).catch(() => undefined))
      const [socket] = await once(request, 'socket') as [Socket]
      if (socket.connecting) await once(socket, 'connect')
    }))
  }
  return { requests, answers }
}

const refused = { status: 503, type: 'application/problem+json; charset=utf-8', retryAfter: '2', body: { code: 'unavailable', retry_after: 2 } }

t.test('so many requests are worked on at once; what comes on top is 503 at once, probes are not, and it is over when they end', async (t) => {
  t.ok(maxInFlight >= 1000)
  const service = await testService(t)
  const { token } = await service.login(newPhone())
  const open = opener(t, service, token)
  const { requests, answers } = await flood(maxInFlight, () => open('PATCH', '/api/v1/users/me', true))
  await until(async () => await inFlight(service) === maxInFlight)

  for (const [method, path] of [['GET', '/api/v1/users/me'], ['GET', '/auth/verify-token/x'], ['POST', '/auth/send-verification'], ['GET', '/auth/markets']] as const) {
    t.match(await answerOf(open(method, path)), refused, path)
  }
  t.match(await answerOf(open('GET', '/health/live')), { status: 200 })
  t.match(await answerOf(open('GET', '/health/ready')), { status: 200, body: { status: 'ok' } })

  // Half of the clients go away, the others send what they announced.
  requests.forEach((request, index) => index % 2 ? request.end('[]') : request.destroy())
  const statuses = (await Promise.all(answers)).map((answer) => answer?.status)
  t.strictSame(statuses, requests.map((_, index) => index % 2 ? 422 : undefined))
  await until(async () => await inFlight(service) === 0)
  t.match(await answerOf(open('GET', '/auth/verify-token')), { status: 200 })
})

t.test('with a frozen PostgreSQL every request is answered 503, the process lives, and all is well when it thaws', async (t) => {
  const postgres = await startTestPostgres()
  t.teardown(() => postgres.remove())
  await migrate(postgres.url)
  const service = await testService(t, { database: { url: postgres.url, sql: async () => [] } })
  const { token } = await service.login(newPhone())
  const open = opener(t, service, token)
  const { rows } = await service.app.db.pool.query<{ pid: number }>("SELECT pid FROM pg_stat_activity WHERE backend_type = 'client backend'")
  const pids = [postgres.pid, ...rows.map(({ pid }) => pid)]
  const signal = (name: NodeJS.Signals) => pids.filter(isRunning).forEach((pid) => process.kill(pid, name))
  t.teardown(() => signal('SIGCONT'))

  signal('SIGSTOP')
  const { answers } = await flood(maxInFlight + 500, () => open('GET', '/auth/verify-token'))
  t.match(await answerOf(open('GET', '/health/live')), { status: 200 })
  t.strictSame([...new Set((await Promise.all(answers)).map((answer) => `${answer?.status} ${answer?.type} ${answer?.retryAfter} ${answer?.body.code}`))],
    ['503 application/problem+json; charset=utf-8 2 unavailable'])
  signal('SIGCONT')
  await until(async () => (await answerOf(open('GET', '/auth/verify-token'))).status === 200)
  await until(async () => await inFlight(service) === 0)
})

t.test('pipelined requests whose client goes away before its answers are not counted for ever', async (t) => {
  const database = await testDatabase(t)
  const service = await testService(t, { database })
  const { token } = await service.login(newPhone())
  const lock = await holdLock(t, database.url, 'LOCK TABLE users')
  const client = connect(Number(new URL(service.url).port), '127.0.0.1')
  const [socket] = await once(service.app.server, 'connection') as [Socket]
  client.write(`GET /auth/verify-token HTTP/1.1\r\nHost: h\r\nAuthorization: Bearer ${token}\r\n\r\n`.repeat(3))
  await lock.isAwaited()
  t.equal(await inFlight(service), 1)
  client.destroy()
  await once(socket, 'close')
  t.equal(await inFlight(service), 0)
  await lock.release()
  t.equal((await service.request('GET', '/auth/verify-token', { token })).status, 200)
})

t.test('every answer is taken off the count: refused, not found, not allowed, preflights and broken requests', async (t) => {
  const service = await testService(t, { env: { CORS_ORIGINS: 'https://app.example.com' } })
  const preflight = { origin: 'https://app.example.com', 'access-control-request-method': 'GET' }
  for (const [method, path, headers] of [
    ['OPTIONS', '/auth/verify-token', preflight], ['OPTIONS', '/auth/markets', preflight], ['OPTIONS', '/api/v1/users/me', preflight],
    ['GET', '/nowhere', {}], ['PUT', '/auth/markets', {}], ['GET', '/auth/%zz', {}], ['GET', '/api/v1/users/me', {}], ['GET', '/auth/markets', {}],
    ['HEAD', '/auth/markets', {}], ['GET', `/api/v1/profile/addresses/${'9'.repeat(101)}`, {}]
  ] as const) {
    await service.request(method, path, { headers })
    await until(async () => await inFlight(service) === 0)
  }
})
