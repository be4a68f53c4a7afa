import { once } from 'node:events'
import { IncomingMessage } from 'node:http'
import { Socket } from 'node:net'
import t from 'tap'
import { unfinishedBodies } from '../../src/limits/unfinished-bodies.js'
import { openConnection, openMany, raw } from '../helpers/raw.js'
import { until } from '../helpers/server-process.js'
import { newPhone, testService, type Service } from '../helpers/service.js'

const unfinished = async ({ app }: Service) =>
  (await app.metrics.getSingleMetric('phone_auth_http_unfinished_bodies')?.get())?.values[0]?.value
const head = (line: string, ...headers: string[]) => [`${line} HTTP/1.1`, 'Host: h', ...headers, '', ''].join('\r\n')
const json = 'Content-Type: application/json'

/** A PATCH with the token of a user that announces two bytes and sends `body`. */
async function patchAs (service: Service) {
  const { token } = await service.login(newPhone())
  return (body: string) =>
    head('PATCH /api/v1/users/me', `Authorization: Bearer ${token}`, json, 'Content-Length: 2') + body
}

t.test('a body that does not arrive within five seconds is 408 and closes its connection', async (t) => {
  const service = await testService(t, { env: { CORS_ORIGINS: 'https://app.example.com' } })
  const send = (...headers: string[]) =>
    head('POST /auth/send-verification', json, 'Origin: https://app.example.com', 'X-Request-Id: slow-body', ...headers)
  const start = performance.now()
  const slow = [
    send('Content-Length: 2'), `${send('Content-Length: 2')}{`, send('Transfer-Encoding: chunked'),
    `${send('Transfer-Encoding: chunked')}1\r\n{\r\n`,
    send('Content-Length: 2', 'Expect: 100-continue'), (await patchAs(service))('{')
  ]

  const responses =
    await Promise.all(slow.map((bytes) => raw(service, bytes, { isReadToClose: true, silenceMs: 20_000 })))
  t.ok(performance.now() - start >= 5000, 'not earlier')
  for (const response of responses) {
    t.match(response,
      { status: 408, headers: { 'content-type': 'application/problem+json; charset=utf-8', connection: 'close' } })
    const { code, request_id: id } = JSON.parse(String(response?.text))
    t.strictSame([code, id], ['request_timeout', response?.headers['x-request-id']])
  }
  t.match(responses[0]?.headers,
    { 'x-request-id': 'slow-body', 'access-control-allow-origin': 'https://app.example.com' })
  await until(async () => await unfinished(service) === 0)
})

t.test('a client that sends single bytes has at most five seconds', async (t) => {
  const service = await testService(t)
  const connection = await openConnection(service)
  const trickle = setInterval(() => connection.socket.write(' '), 100)
  t.teardown(() => clearInterval(trickle))

  connection.socket.write(head('POST /auth/verify-code', json, 'Content-Length: 16000'))
  t.strictSame(await connection.statuses(), [408])
})

t.test('after an early response, the rest of the body has at most five seconds', async (t) => {
  const service = await testService(t)
  const { token } = await service.login(newPhone())
  const bearer = `Authorization: Bearer ${token}`
  const requests: Array<[bytes: string, status: number]> = [
    [head('POST /auth/verify-token', 'Content-Length: 2'), 401],
    [head('POST /auth/verify-token', bearer, 'Transfer-Encoding: chunked'), 200],
    [head('GET /api/v1/users/me', bearer, 'Content-Length: 2'), 200],
    [head('PATCH /api/v1/users/me', json, 'Content-Length: 2'), 401],
    [head('POST /nowhere', 'Content-Length: 2'), 404], [head('PUT /auth/markets', 'Content-Length: 2'), 405],
    [head('PUT /%zz', 'Content-Length: 2'), 400],
    [head('POST /auth/verify-code', 'Content-Length: 2', 'Content-Type: text/plain'), 415],
    [head('POST /auth/verify-code', json, 'Content-Length: 99999'), 413]
  ]
  const connections = []
  for (const [bytes, status] of requests) {
    const connection = await openConnection(service)
    connection.socket.write(bytes)
    connections.push({ connection, bytes, status })
  }

  for (const { connection, bytes, status } of connections) t.strictSame(await connection.statuses(), [status], bytes)
  t.equal(await unfinished(service), 0)
})

t.test('a body that arrives after the response leaves the connection open', async (t) => {
  const service = await testService(t)
  for (const [request, rest] of [
    [head('POST /auth/verify-token', 'Content-Length: 2'), '{}'],
    [head('POST /auth/verify-token', 'Transfer-Encoding: chunked'), '0\r\n\r\n']
  ] as const) {
    const connection = await openConnection(service)

    await connection.write(request)
    await connection.statuses(1)
    t.equal(await unfinished(service), 1)
    await connection.write(rest, head('GET /health/live'))
    t.strictSame(await connection.statuses(2), [401, 200])
    t.equal(await unfinished(service), 0)
    connection.socket.destroy()
  }
})

t.test('after a client disconnects in the middle of its body, nothing waits and nothing is logged', async (t) => {
  const service = await testService(t)
  const patch = await patchAs(service)
  for (const bytes of [patch('{'), head('POST /auth/verify-token', 'Content-Length: 2')]) {
    const [socket] = await openMany(service, 1, () => bytes) as [Socket]
    await until(async () => await unfinished(service) === 1)

    socket.destroy()
    await until(async () => await unfinished(service) === 0)
  }
  t.notMatch(service.log.join(''), '"err":')
  t.notMatch(service.log.join(''), '"level":50')
})

t.test('a process waits for 1,000 bodies; one more ends the oldest', (t) => {
  const bodies = unfinishedBodies()
  const ended: number[] = []
  const requests = Array.from({ length: 1003 }, (_, index) => new IncomingMessage(new Socket()).on('error', (error) => {
    t.match(error, { problemCode: 'request_timeout' })
    ended.push(index)
  }))

  for (const request of requests.slice(0, 1001)) bodies.add(request)
  t.strictSame(ended, [0])
  bodies.delete(requests[500] as IncomingMessage)
  for (const request of requests.slice(1001)) bodies.add(request)
  t.strictSame(ended, [0, 1], 'a body that arrived frees its place')
  t.equal(bodies.size, 1000)
  for (const request of requests) bodies.delete(request)
  t.end()
})

t.test('a body that arrives while the process is busy is not late', async (t) => {
  const service = await testService(t)
  const patch = await patchAs(service)
  const connection = await openConnection(service)
  await connection.write(patch('{'))
  await until(async () => await unfinished(service) === 1)

  connection.socket.write('}')
  Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0, 5500)
  t.strictSame(await connection.statuses(1), [200])
  connection.socket.destroy()
  await once(connection.socket, 'close')
})
