import { once } from 'node:events'
import type { RequestListener } from 'node:http'
import type { AddressInfo } from 'node:net'
import t, { type Test } from 'tap'
import { createServer } from '../../src/http/server.js'
import { connectionLimits } from '../../src/limits/by-connection.js'
import { unfinishedBodies } from '../../src/limits/unfinished-bodies.js'
import { holdLock } from '../helpers/locks.js'
import { openConnection, raw } from '../helpers/raw.js'
import { newPhone, testService } from '../helpers/service.js'

const request = (line: string, ...headers: string[]) => [`${line} HTTP/1.1`, 'Host: h', ...headers, '', ''].join('\r\n')
const post = (path: string, body: string, ...headers: string[]) =>
  request(`POST ${path}`, 'Content-Type: application/json', `Content-Length: ${body.length}`, ...headers) + body

/** Ways to write two requests: in one piece, in two halves, and with the second request separate in two pieces. */
const ways: Array<(first: string, second: string) => string[]> = [
  (first, second) => [first + second],
  (first, second) => [(first + second).slice(0, first.length / 2), (first + second).slice(first.length / 2)],
  (first, second) => [first, second.slice(0, 3), second.slice(3)]
]

/** A service whose messages wait for `deliver`, so a test controls how long a send is pending. */
async function serviceWithSlowMessages (t: Test) {
  let deliver = () => {}
  const delivered = new Promise<void>((resolve) => { deliver = resolve })
  const service = await testService(t, { overrides: { sms: () => delivered } })
  return { ...service, deliver, send: () => post('/auth/send-verification', JSON.stringify({ phone: newPhone() })) }
}

t.test('CONNECT or unreadable bytes behind a pending request close the connection without a response', async (t) => {
  const service = await serviceWithSlowMessages(t)
  const live = request('GET /health/live')
  const unreadable = [
    request('CONNECT a:1'), request('CONNECT /auth/verify-token'), request('CONNECT a:1') + live, 'garbage\r\n\r\n',
    '\x16\x03\x01\x02\0\x01',
    request('GET /', `X: ${'a'.repeat(17_000)}`), request('GET /', 'Content-Length: -1'),
    request('PRI *').replace('1.1', '2.0')
  ]

  for (const second of unreadable) {
    for (const write of ways) {
      for (const between of ['', live]) {
        const connection = await openConnection(service)
        await connection.write(...write(service.send() + between, second))
        t.equal(await connection.closed, '', JSON.stringify(second.slice(0, 60)))
      }
    }
  }
  service.deliver()
  t.equal((await service.request('GET', '/health/live')).status, 200)
})

t.test('upgrades and expectations behind a pending request are handled after it, as plain requests', async (t) => {
  const service = await serviceWithSlowMessages(t)
  const readable: Array<[bytes: string, ...statuses: number[]]> = [
    [request('GET /health/live', 'Upgrade: websocket', 'Connection: Upgrade'), 200],
    [request('GET /nowhere', 'Upgrade: h2c', 'Connection: Upgrade, HTTP2-Settings', 'HTTP2-Settings: AAMAAABk'), 404],
    [request('OPTIONS *', 'Upgrade: TLS/1.0', 'Connection: Upgrade'), 404],
    [request('GET /health/live', 'Expect: something'), 200],
    [post('/auth/verify-code', '{}', 'Expect: 100-continue'), 100, 422],
    [request('GET /health/live', 'Expect: 100-continue'), 100, 200]
  ]
  const pending = []
  for (const [second, ...expected] of readable) {
    for (const write of ways) {
      const connection = await openConnection(service)
      await connection.write(...write(service.send(), second))
      pending.push({ connection, expected: [200, ...expected], second })
    }
  }
  t.equal(pending.map(({ connection }) => connection.text).join(''), '')

  service.deliver()
  for (const { connection, expected, second } of pending) {
    t.strictSame(await connection.statuses(expected.length), expected, second.slice(0, 60))
    connection.socket.destroy()
  }
})

t.test('a client that resets its connection after CONNECT behind a pending request affects nothing else', async (t) => {
  const service = await testService(t)
  const { token } = await service.login(newPhone())
  const lock = await holdLock(t, service.database.url, 'LOCK TABLE users')

  for (const bytes of [request('CONNECT a:1'), 'garbage\r\n\r\n', '']) {
    const connection = await openConnection(service)
    await connection.write(request('GET /auth/verify-token', `Authorization: Bearer ${token}`), bytes)
    connection.socket.resetAndDestroy()
    await connection.closed
  }
  await lock.isAwaited()
  await lock.release()
  t.equal((await service.request('GET', '/auth/verify-token', { token })).status, 200)
})

t.test('CONNECT closes its connection without a response', async (t) => {
  const service = await testService(t)
  const { token } = await service.login(newPhone())

  for (const target of ['example.com:443', '/auth/verify-token', '/health/live']) {
    t.equal(await raw(service, request(`CONNECT ${target}`, `Authorization: Bearer ${token}`)), undefined, target)
  }
})

t.test('unreadable bytes get a response only if it is the next one', async (t) => {
  const service = await testService(t)
  const chunked = request('POST /auth/verify-token', 'Transfer-Encoding: chunked')

  const idle = await openConnection(service)
  await idle.write(request('GET /health/live'))
  await idle.statuses(1)
  await idle.write('garbage\r\n\r\n')
  t.strictSame(await idle.statuses(), [200, 400], 'no request is pending')

  const answered = await openConnection(service)
  await answered.write(chunked)
  await answered.statuses(1)
  await answered.write('zz\r\n')
  t.strictSame(await answered.statuses(), [401], 'the request already has its response')

  const read = await openConnection(service)
  await read.write(request('POST /auth/verify-code', 'Content-Type: application/json', 'Transfer-Encoding: chunked'),
    'zz\r\n')
  t.strictSame(await read.statuses(), [400], 'the request waits for the body')
})

t.test('16 pipelined requests get responses on every route, the 17th closes the connection', async (t) => {
  const service = await testService(t, { env: { DOCS: 'true' } })
  const { token } = await service.login(newPhone())
  const bearer = `Authorization: Bearer ${token}`
  const routes: Array<[request: string, status: number]> = [
    [request('GET /health/live'), 200], [request('GET /health/ready'), 200], [request('GET /auth/markets'), 200],
    [request('GET /auth/verify-token', bearer), 200],
    [request('GET /api/v1/profile/addresses', bearer), 200], [request('GET /nowhere'), 404],
    [request('PUT /auth/markets'), 405], [request('GET /%zz'), 400],
    [request('GET /openapi.json'), 200], [request('GET /docs/'), 200],
    [request('GET /docs/static/swagger-ui.css'), 200], [post('/auth/verify-code', '{}'), 422],
    [request('GET /health/live', 'Expect: x'), 200]
  ]

  for (const [bytes, status] of routes) {
    const honest = await openConnection(service)
    honest.socket.write(bytes.repeat(16))
    t.strictSame(await honest.statuses(16), Array(16).fill(status), bytes)
    honest.socket.destroy()

    const greedy = await openConnection(service)
    greedy.socket.write(bytes.repeat(17))
    t.ok((await greedy.statuses()).length < 17, bytes)
  }
  const patient = await openConnection(service)
  for (let i = 1; i <= 50; i++) {
    patient.socket.write(request('GET /health/live'))
    t.equal((await patient.statuses(i)).length, i, 'any number of requests, one after the other')
  }
  patient.socket.destroy()
})

t.test('requests behind the 17th are not processed', async (t) => {
  const handled: string[] = []
  const { guard } = connectionLimits(unfinishedBodies())
  const url = await listen(t, guard(({ url }) => { handled.push(String(url)) }, () => {}))

  await raw({ url }, Array.from({ length: 100 }, (_, i) => request(`GET /${i}`)).join(''))
  t.strictSame(handled, Array.from({ length: 16 }, (_, i) => `/${i}`))
})

t.test('an error of the service in a request event is logged and closes only its connection', async (t) => {
  const service = await testService(t)
  service.app.server.prependListener('request', (request) => {
    if (request.url === '/bug') Object.defineProperty(request, 'url', { get () { throw new Error('a bug') } })
  })

  t.equal(await raw(service, request('GET /bug')), undefined)
  t.match(service.log.map((line) => JSON.parse(line)).filter(({ level }) => level >= 50),
    [{ event: 'error', level: 50, err: { message: 'a bug' } }])
  t.match(await raw(service, request('GET /health/live')), { status: 200 })
})

/** Listens with the HTTP server of the service. Returns the URL. */
async function listen (t: Test, handle: RequestListener) {
  const server = createServer(handle).listen(0, '127.0.0.1')
  t.teardown(() => { server.close() })
  await once(server, 'listening')
  return `http://127.0.0.1:${(server.address() as AddressInfo).port}`
}
