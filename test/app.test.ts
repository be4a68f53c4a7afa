import { once } from 'node:events'
import { createServer } from 'node:http'
import { connect, type AddressInfo, type Socket } from 'node:net'
import { text } from 'node:stream/consumers'
import t, { type Test } from 'tap'
import { buildApp } from '../src/app.js'
import { loadConfig } from '../src/config/index.js'
import { head, rawRequest } from './helpers/raw.js'
import { newPhone, testDatabase, testService, type Json } from './helpers/service.js'

const send = '/api/v1/auth/send-verification'

/** The service in development: a database, no Redis, codes in memory, messages on standard output. */
async function developmentService (t: Test) {
  const { url } = await testDatabase(t)
  const app = await buildApp(loadConfig({ NODE_ENV: 'development', DATABASE_URL: url, LOG_LEVEL: 'silent' }))
  t.teardown(() => app.close())
  return app
}

t.test('development needs no Redis, and the printed code signs in', async (t) => {
  const app = await developmentService(t)
  const phone = newPhone()
  // Forward the output, because tap reports on the same stream.
  const written = t.capture(process.stdout, 'write', process.stdout.write.bind(process.stdout))
  t.equal((await app.inject({ method: 'POST', url: send, payload: { phone } })).statusCode, 200)
  const code = written().map(({ args }) => args.join('')).join('').match(/ код (\d{6})/)?.[1]
  written.restore()
  const verified = await app.inject({
    method: 'POST', url: '/api/v1/auth/verify-code', payload: { phone, verification_code: code }
  })
  t.equal(verified.statusCode, 200)
  t.match(verified.json(), { token_type: 'bearer', is_new_user: true })
  t.match((await app.inject('/health/ready')).json(), { status: 'ok' })
})

t.test('log lines go to standard output by default', async (t) => {
  const { url } = await testDatabase(t)
  const app = await buildApp(loadConfig({ NODE_ENV: 'development', DATABASE_URL: url }))
  t.teardown(() => app.close())
  t.equal(app.log.level, 'info')
})

t.test('the message is sent to the configured webhook', async (t) => {
  const received: Json[] = []
  const provider = createServer(async (request, response) => {
    received.push(JSON.parse(await text(request)))
    response.end()
  }).listen(0, '127.0.0.1')
  await once(provider, 'listening')
  t.teardown(() => {
    provider.close()
    provider.closeAllConnections()
  })
  const { port } = provider.address() as AddressInfo
  const service = await testService(t, {
    env: { SMS_WEBHOOK_URL: `http://127.0.0.1:${port}/` }, overrides: { sms: undefined as never }
  })
  const phone = newPhone('us')
  t.equal((await service.send(phone)).status, 200)
  t.match(received, [{ to: phone, text: /^Marque: your code is \d{6}$/, market: 'us', language: 'en' }])
  t.equal((await service.verify(phone, received[0].text.slice(-6))).status, 200)
})

t.test('the client IP is the one that a trusted gateway names', async (t) => {
  const clientOf = async (trustProxy: string | undefined, forwarded: string) => {
    const service = await testService(t, { env: trustProxy === undefined ? {} : { TRUST_PROXY: trustProxy } })
    await service.request('POST', send, { body: { phone: newPhone() }, headers: { 'x-forwarded-for': forwarded } })
    return service.log.map((line) => JSON.parse(line)).find(({ event }) => event === 'code_sent').client
  }
  t.equal(
    await clientOf(undefined, '203.0.113.7'), '203.0.113.7',
    'the test connects from loopback, which is trusted by default'
  )
  t.equal(
    await clientOf(undefined, '198.51.100.1, 203.0.113.7'), '203.0.113.7',
    'an entry before that of the gateway does not count'
  )
  t.equal(await clientOf(undefined, '203.0.113.7, 10.0.0.2'), '203.0.113.7', 'gateways in a row')
  t.equal(await clientOf('false', '203.0.113.7'), '127.0.0.1')
  t.equal(await clientOf('10.0.0.0/8', '203.0.113.7'), '127.0.0.1')
})

t.test('verify-token responds to every suffix, query and form of its path', async (t) => {
  const service = await testService(t)
  const phone = newPhone()
  const { token, user } = await service.login(phone)
  const suffixes = [
    '', '/', '/a', '/a/b/c', '//', '/../../users/me', '/%', '/%zz', '/%00', '/%2e%2e', '/%d0%b6', '/a;b', '/a#b', '?',
    '?%zz', '/?x=%ff', '/a?b/c', `/${'x'.repeat(9000)}`
  ]
  for (const prefix of ['/auth', '/api/v1/auth', 'http://example.com/auth', 'HTTPS://[::1]:8443/api/v1/auth']) {
    for (const suffix of suffixes) {
      const path = `${prefix}/verify-token${suffix}`
      const { status, headers, body } = await rawRequest(
        service.url, head(`GET ${path}`, `Authorization: Bearer ${token}`)
      )
      t.strictSame({ status, body, id: headers.get('x-user-id'), market: headers.get('x-user-market') },
        { status: 200, body: { valid: true, user_id: user.id, market: 'kg' }, id: String(user.id), market: 'kg' },
        path.slice(0, 80))
      t.equal((await rawRequest(service.url, head(`GET ${path}`))).status, 401, path.slice(0, 80))
    }
  }
})

t.test('verify-token ignores the bodies and headers that a gateway forwards', async (t) => {
  const service = await testService(t)
  const { token } = await service.login(newPhone())
  const bearer = `Authorization: Bearer ${token}`
  for (const [body, ...headers] of [
    ['{', 'Content-Type: application/json', 'Content-Length: 1'],
    ['x', 'Content-Type: text/html', 'Content-Length: 1'],
    ['x', 'Content-Length: 100000'],
    ['1\r\nx\r\n0\r\n\r\n', 'Content-Type: garbage', 'Transfer-Encoding: chunked'],
    ['', 'Expect: something'], ['', 'Origin: https://evil.example', 'Access-Control-Request-Method: POST']
  ] as Array<[string, ...string[]]>) {
    for (const method of ['GET', 'POST', 'OPTIONS', 'PROPFIND']) {
      const request = (...more: string[]) =>
        rawRequest(service.url, `${head(`${method} /auth/verify-token/orders`, ...headers, ...more)}${body}`)
      t.equal((await request(bearer)).status, 200, `${method} ${headers}`)
      t.equal((await request()).status, 401, `${method} ${headers}`)
    }
  }
})

t.test('verify-token responds invalid_token to a malformed Authorization header', async (t) => {
  const service = await testService(t)
  const { token } = await service.login(newPhone())
  for (const headers of [
    ['Authorization: Basic\tx'], ['Authorization: Bearer =='], [`Authorization: Bearer  ${token}`],
    [`Authorization: Bearer ${token}`, `Authorization: Bearer ${token}`]
  ]) {
    const { status, headers: received, body } = await rawRequest(
      service.url, head('GET /auth/verify-token', ...headers)
    )
    t.strictSame({ status, code: body.code, challenge: received.get('www-authenticate') },
      { status: 401, code: 'invalid_token', challenge: 'Bearer realm="phone-auth", error="invalid_token"' })
  }
})

t.test('a silent client holds a connection for a limited time, and an idle gateway for more than 60 s', async (t) => {
  const { app, url, request } = await testService(t)
  const { headersTimeout, requestTimeout, timeout, keepAliveTimeout } = app.server
  t.strictSame(
    { headersTimeout, requestTimeout, timeout, keepAliveTimeout },
    { headersTimeout: 10_000, requestTimeout: 15_000, timeout: 75_000, keepAliveTimeout: 72_000 }
  )
  t.equal((await request('GET', '/auth/markets')).headers.get('keep-alive'), 'timeout=72')
  await once(connect(Number(new URL(url).port), '127.0.0.1').resume(), 'close')
})

t.test('a connection that broke before its bytes were read gets no response', async (t) => {
  const service = await testService(t)
  const client = connect(Number(new URL(service.url).port), '127.0.0.1')
  const [socket] = await once(service.app.server, 'connection') as [Socket]
  const unreadable = (code: string) =>
    service.app.server.emit('clientError', Object.assign(new Error(), { code }), socket)
  unreadable('ECONNRESET')
  t.equal(socket.bytesWritten, 0)
  socket.end()
  unreadable('HPE_INVALID_METHOD')
  await once(client.resume(), 'close')
  t.equal(client.bytesRead, 0)
})
