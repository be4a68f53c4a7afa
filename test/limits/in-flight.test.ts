import { once } from 'node:events'
import { Agent, request as httpRequest, type ClientRequest, type IncomingMessage } from 'node:http'
import type { Socket } from 'node:net'
import { json } from 'node:stream/consumers'
import t, { type Test } from 'tap'
import { migrate } from '../../src/db/migrate.js'
import { maxInFlight } from '../../src/limits/in-flight.js'
import { holdLock } from '../helpers/locks.js'
import { openConnection, openMany } from '../helpers/raw.js'
import { isRunning, until } from '../helpers/server-process.js'
import { startTestPostgres } from '../helpers/servers.js'
import { newPhone, testService, type Json, type Service } from '../helpers/service.js'

const gauge = async ({ app }: Service, name: string) =>
  (await app.metrics.getSingleMetric(name)?.get())?.values[0]?.value
const inFlight = (service: Service) => gauge(service, 'phone_auth_http_requests_in_flight')
const unfinished = (service: Service) => gauge(service, 'phone_auth_http_unfinished_bodies')

/** An agent that opens a connection for every request. */
function opener (t: Test, { url }: Service, token = '') {
  const agent = new Agent({ keepAlive: false })
  t.teardown(() => agent.destroy())
  return (method: string, path: string) =>
    httpRequest(url + path, { agent, method, headers: { authorization: `Bearer ${token}` } }).end()
}

async function answerOf (request: ClientRequest) {
  const [response] = await once(request, 'response') as [IncomingMessage]
  return {
    status: response.statusCode,
    type: response.headers['content-type'],
    retryAfter: response.headers['retry-after'],
    body: await json(response) as Json
  }
}

/** Makes requests, 100 at a time, as a listener resets connections that it accepts too late. Returns the responses. */
async function flood ({ app }: Service, count: number, open: () => ClientRequest) {
  const responses: Array<ReturnType<typeof answerOf>> = []
  let accepted = 0
  app.server.on('connection', () => { accepted++ })
  while (responses.length < count) {
    responses.push(...Array.from({ length: 100 }, () => answerOf(open())))
    await until(() => accepted === responses.length)
  }
  return responses
}

const refused = {
  status: 503,
  type: 'application/problem+json; charset=utf-8',
  retryAfter: '2',
  body: { code: 'unavailable', retry_after: 2 }
}

t.test('2,000 requests are in flight at once, also pipelined or of lost clients; more are 503', async (t) => {
  let deliver = () => {}
  const delivered = new Promise<void>((resolve) => { deliver = resolve })
  let held = 0
  const service = await testService(t, { overrides: { sms: () => { held++; return delivered } } })
  const open = opener(t, service)
  const send = () => {
    const body = JSON.stringify({ phone: newPhone() })
    return 'POST /auth/send-verification HTTP/1.1\r\nHost: h\r\nContent-Type: application/json\r\n' +
      `Content-Length: ${body.length}\r\n\r\n${body}`
  }
  t.ok(maxInFlight >= 1000)

  const sockets: Socket[] = []
  for (let sent = 16; sent <= maxInFlight; sent += 16) {
    sockets.push(...await openMany(service, 1, () => Array.from({ length: 16 }, send).join('')))
    await until(() => held === sent)
  }
  t.equal(await inFlight(service), maxInFlight)
  sockets.forEach((socket, index) => { if (index % 2) socket.destroy() })
  for (const [method, path] of [
    ['GET', '/api/v1/users/me'], ['GET', '/auth/verify-token/x'], ['POST', '/auth/send-verification'],
    ['GET', '/auth/markets']
  ] as const) {
    t.match(await answerOf(open(method, path)), refused, path)
  }
  t.match(await answerOf(open('GET', '/health/live')), { status: 200 })
  t.match(await answerOf(open('GET', '/health/ready')), { status: 200, body: { status: 'ok' } })

  deliver()
  await until(async () => await inFlight(service) === 0)
  t.match(await answerOf(open('GET', '/auth/markets')), { status: 200 })
  for (const socket of sockets) socket.destroy()
})

t.test('requests that wait for their body, or for a client that does not read, do not count', async (t) => {
  const service = await testService(t)
  const { token } = await service.login(newPhone())
  const head = `HTTP/1.1\r\nHost: h\r\nAuthorization: Bearer ${token}\r\n`

  const sending = await openConnection(service)
  const deaf = await openConnection(service)
  deaf.socket.pause()
  await deaf.write(`GET /api/v1/users/me ${head}\r\n`.repeat(16))
  await sending.write(`PATCH /api/v1/users/me ${head}Content-Type: application/json\r\nContent-Length: 2\r\n\r\n{`)
  await until(async () => await unfinished(service) === 1)
  await until(async () => await inFlight(service) === 0)
  await sending.write('}')
  t.strictSame(await sending.statuses(1), [200])
  t.strictSame([await unfinished(service), await inFlight(service)], [0, 0])
  sending.socket.destroy()
  deaf.socket.destroy()
})

t.test('while PostgreSQL hangs, every request is 503 and the process lives; later requests work', async (t) => {
  const postgres = await startTestPostgres()
  t.teardown(() => postgres.remove())
  await migrate(postgres.url)
  const service = await testService(t, { database: { url: postgres.url, sql: async () => [] } })
  const { token } = await service.login(newPhone())
  const open = opener(t, service, token)
  const { rows } = await service.app.db.pool.query<{ pid: number }>(
    "SELECT pid FROM pg_stat_activity WHERE backend_type = 'client backend'")
  const pids = [postgres.pid, ...rows.map(({ pid }) => pid)]
  const signal = (name: NodeJS.Signals) => pids.filter(isRunning).forEach((pid) => process.kill(pid, name))
  t.teardown(() => signal('SIGCONT'))

  signal('SIGSTOP')
  const responses = await flood(service, maxInFlight + 500, () => open('GET', '/auth/verify-token'))
  t.match(await answerOf(open('GET', '/health/live')), { status: 200 })
  const kinds = (await Promise.all(responses)).map(
    (response) => `${response.status} ${response.type} ${response.retryAfter} ${response.body.code}`)
  t.strictSame([...new Set(kinds)], ['503 application/problem+json; charset=utf-8 2 unavailable'])
  signal('SIGCONT')
  await until(async () => (await answerOf(open('GET', '/auth/verify-token'))).status === 200)
  await until(async () => await inFlight(service) === 0)
})

t.test('a request counts until its handler ends, also after its client disconnects', async (t) => {
  const service = await testService(t)
  const { token } = await service.login(newPhone())
  const lock = await holdLock(t, service.database.url, 'LOCK TABLE users')

  const { socket, closed, write } = await openConnection(service)
  await write(`GET /auth/verify-token HTTP/1.1\r\nHost: h\r\nAuthorization: Bearer ${token}\r\n\r\n`.repeat(3))
  await lock.isAwaited()
  socket.destroy()
  await closed
  t.equal(await inFlight(service), 3)
  await lock.release()
  await until(async () => await inFlight(service) === 0)
})

t.test('every response ends the count: refused, not found, not allowed, preflights and broken requests', async (t) => {
  const service = await testService(t, { env: { CORS_ORIGINS: 'https://app.example.com' } })
  const preflight = { origin: 'https://app.example.com', 'access-control-request-method': 'GET' }
  for (const [method, path, headers] of [
    ['OPTIONS', '/auth/verify-token', preflight], ['OPTIONS', '/auth/markets', preflight],
    ['OPTIONS', '/api/v1/users/me', preflight],
    ['GET', '/nowhere', {}], ['PUT', '/auth/markets', {}], ['GET', '/auth/%zz', {}], ['GET', '/api/v1/users/me', {}],
    ['GET', '/auth/markets', {}],
    ['HEAD', '/auth/markets', {}], ['GET', `/api/v1/profile/addresses/${'9'.repeat(101)}`, {}]
  ] as const) {
    await service.request(method, path, { headers })
    await until(async () => await inFlight(service) === 0)
  }
})
