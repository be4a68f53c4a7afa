import { createHash, randomBytes } from 'node:crypto'
import { METHODS } from 'node:http'
import t, { type Test } from 'tap'
import { migrate } from '../../../src/db/migrate.js'
import { freePort } from '../../helpers/free-port.js'
import { startApplication, startGateway, type GatewayName } from '../../helpers/gateways.js'
import { problemOf } from '../../helpers/responses.js'
import { logLines, smsWebhook, startService, until } from '../../helpers/server-process.js'
import { head, raw } from '../../helpers/raw.js'
import { client, newPhone, productionEnv, testRedis } from '../../helpers/service.js'
import { startTestPostgres } from '../../helpers/servers.js'

/*
 * npm run test:gateways: each gateway, with its file from deploy/, in front of two replicas and an application. Debian
 * has no package of Envoy: GATEWAYS=envoy npm run test:gateways tests it.
 */
const names = (process.env.GATEWAYS ?? 'nginx,caddy,haproxy').split(',') as GatewayName[]

const postgres = await startTestPostgres()
t.teardown(postgres.remove)
await migrate(postgres.url)

const identity = /^x[^a-z0-9]user[^a-z0-9](id|market)$/i

/** The characters of a header name that are neither letters nor digits (RFC 9110, section 5.6.2). */
const signs = [..."!#$%&'*+-.^_`|~"]

/** Headers that some application could read as X-User-Id or X-User-Market. */
const forgeries = [
  ...signs.map((sign, i) => [
    `X${sign}User${sign}Id: 1`, `x${sign}user-id: 1`, `X-USER${sign}Market: us`,
    `X${sign}User${signs.at(i - 1)}Market: us`
  ]),
  ['X-User-Id: 1'],
  ['x-user-id: 1', 'x-user-id: 2'],
  ['X_User_Id: 1'],
  ['X_USER_MARKET: us'],
  ['X-User_Id: 1', 'x_user-id: 1', 'X_USER-MARKET: us'],
  ['X-User-Id:', 'X-User-Market:'],
  ['X-User-Id: 1, 2', 'X-USER-MARKET: us'],
  // A proxy removes the headers that Connection names (RFC 9110, section 7.6.1).
  ['Connection: X-User-Id, X-User-Market']
]

/** Lines that a parser could read as a line of another name, or as two lines. */
const oddLines = [
  'X-User-Id : 1', 'X-User-Id\t: 1', ' X-User-Id: 1', 'X-A: b\r\n X-User-Id: 1', 'X-A:\r\n\tX-User-Id: 1',
  'X-A: b\nX-User-Id: 1', 'X-A: b\rX-User-Id: 1', 'X-User-Id\r\n : 1', 'X-User-Id: 1\r\n 2', '\x0bX-User-Id: 1',
  'X-User-Id\0: 1', 'X-\x80User-Id: 1', 'X\x80User\x80Id: 1', '"X-User-Id": 1', 'X-User-Id', ': X-User-Id: 1',
  'X/User/Id: 1', 'X User Id: 1', 'X(User)Id: 1', 'X=User=Id: 1', 'X@User@Id: 1'
]
/** Bodies in which a parser could find a header. */
const oddBodies = [
  '1;X-User-Id=1\r\na\r\n0\r\n\r\n',
  '1;a\nX-User-Id: 1\r\na\r\n0\r\n\r\n',
  '1\r\na\r\n0\r\nX-User-Id: 1\r\nX_User_Market: us\r\n\r\n',
  '1\r\na\r\n0;X-User-Id: 1\r\nX-A: b\r\n X-User-Id: 1\r\n\r\n'
]

/** Methods that a gateway refuses, with the status. */
const refusedMethods: Partial<Record<GatewayName, Record<string, number>>> = {
  nginx: { TRACE: 405 },
  envoy: { 'M-SEARCH': 400, QUERY: 400 }
}

/** Paths that every gateway forwards unchanged. */
const paths = [
  '/', '/orders/7', '/a//b', '/a/./b', '/a/../b', '/a%2Fb', '/a%2fb', '/a%2e%2e/b', '/a%20b', '/%D0%B6', '/%ff',
  '/a;b=c', '/a?b=%zz', '/?', '/a?b?c', '/a?x=/../auth/markets', '/api/v1/orders', '/authentic', '/AUTH',
  '/api/v1/auth', '/api/v1/authx/', `/${'x'.repeat(6000)}`
]
/** Paths that a gateway may refuse, or take for a path of phone-auth. */
const oddPaths = [
  '/%00', '/%', '/%zz', '/%2e%2e/b', '/api/v1/auth%2Fmarkets', '/a\x80b', '//auth/markets', '/x/../auth/markets',
  '/auth/../orders', '/auth/%2e%2e/orders', '/%61uth/markets', '/AUTH/markets', '/_phone-auth', '*',
  'http://evil.example/orders', 'orders'
]

async function setUp (t: Test, name: GatewayName) {
  const { url: smsUrl, sms } = await smsWebhook(t)
  const redis = await testRedis(t)
  const env = { ...productionEnv(postgres.url, redis.url), SMS_WEBHOOK_URL: smsUrl }
  const ports = [await freePort(), await freePort()] as const
  const startReplica = (i: 0 | 1) => startService(t, { ...env, PORT: String(ports[i]) })
  const replicas = await Promise.all([startReplica(0), startReplica(1)])
  const application = await startApplication(t)
  const hosts: [string, string] = [`127.0.0.1:${ports[0]}`, `127.0.0.1:${ports[1]}`]
  const start = (changes = {}) => startGateway(t, name, hosts, application.address, changes)
  const url = await start()
  const app = client(url, sms)
  const phone = newPhone()
  return { ...app, phone, ...await app.login(phone), application, replicas, startReplica, start }
}

for (const name of names) {
  t.test(name, async (t) => {
    const { url, phone, request, login, token, user, application, replicas, startReplica, start } = await setUp(t, name)
    const bearer = `Authorization: Bearer ${token}`
    const identified = [['x-user-id', String(user.id)], ['x-user-market', 'kg']]
    /** Every header that an application could read as X-User-Id or X-User-Market. */
    const identityOf = (headers: string[][]) => headers.filter(([name = '']) => identity.test(name))
      .map(([name = '', value]) => [name.toLowerCase(), value]).sort()
    const isRefused = async (t: Test, token?: string, code = 'invalid_token') => {
      const response = await request('GET', '/orders/7', { ...(token !== undefined && { token }) })
      t.strictSame(...problemOf(response, 401, 'Unauthorized', code))
      t.equal(response.headers.get('content-type')?.split(';')[0], 'application/problem+json')
      const challenge = `Bearer realm="phone-auth"${code === 'token_missing' ? '' : ', error="invalid_token"'}`
      t.equal(response.headers.get('www-authenticate'), challenge)
      t.equal(response.headers.get('cache-control'), 'no-store')
    }
    const isUnavailable = async (t: Test) => {
      const response = await request('GET', '/orders/7', { token })
      t.strictSame(...problemOf(response, 503, 'Service Unavailable', 'unavailable', { retry_after: 2 }))
      t.equal(response.headers.get('content-type')?.split(';')[0], 'application/problem+json')
      t.equal(response.headers.get('retry-after'), '2')
    }

    t.test('the application receives the user and the market of a live token', async (t) => {
      t.equal((await request('GET', '/orders/7?a=b', { token })).status, 200)
      t.match(application.received(), [{ method: 'GET', url: '/orders/7?a=b' }])
      await request('GET', '/', { token })
      t.strictSame(application.received().map(({ headers }) => identityOf(headers)), [identified])
    })

    t.test('without a valid token the response is the 401 of phone-auth, and no request is forwarded', async (t) => {
      await isRefused(t, undefined, 'token_missing')
      await isRefused(t, 'garbage')
      await isRefused(t, `${token}x`)
      t.equal((await raw({ url }, head('GET /', `Authorization: Basic ${token}`)))?.status, 401)
      t.equal((await raw({ url }, head('GET /', 'Authorization: Bearer')))?.status, 401)
      // Two Authorization headers are malformed. nginx refuses them itself.
      const other = 'Authorization: Bearer x'
      for (const credentials of [[bearer, other], [other, bearer], [bearer, bearer]]) {
        t.equal((await raw({ url }, head('GET /', ...credentials)))?.status, name === 'nginx' ? 400 : 401)
      }
      const { token: ended } = await login(newPhone())
      t.equal((await request('GET', '/', { token: ended })).status, 200)
      t.equal((await request('POST', '/api/v1/auth/logout', { token: ended })).status, 200)
      t.equal(application.received().length, 1)
      await isRefused(t, ended)
      t.strictSame(application.received(), [])
    })

    t.test('no spelling of X-User-Id and X-User-Market from a client reaches the application', async (t) => {
      for (const forged of forgeries) {
        for (const separator of ['Connection: close', 'Connection: keep-alive']) {
          const lines = [separator, ...forged].join('; ')
          const bytes = ['GET / HTTP/1.1', 'Host: localhost', bearer, separator, ...forged, '', ''].join('\r\n')
          t.equal((await raw({ url }, bytes))?.status, 200, lines)
          t.strictSame(application.received().map(({ headers }) => identityOf(headers)), [identified], lines)
          t.equal((await raw({ url }, head('GET /', ...forged)))?.status, 401, lines)
        }
      }
      t.strictSame(application.received(), [])
    })

    t.test('no malformed line carries an identity to the application', async (t) => {
      for (const line of oddLines) {
        for (const lines of [[line], ['X-A: b', line], [line, 'X-A: b']]) {
          await raw({ url }, head('GET /', bearer, ...lines))

          const requests = application.received()
          for (const { headers } of requests) t.strictSame(identityOf(headers), identified, JSON.stringify(lines))
        }
      }
    })

    t.test('no chunk extension or trailer becomes a header of the application', async (t) => {
      for (const body of oddBodies) {
        const trailer = 'Trailer: X-User-Id, X_User_Market, X-A'
        const announcements = [[], [trailer], ['TE: trailers', 'Connection: close, TE']]
        for (const lines of announcements) {
          await raw({ url }, head('POST /', bearer, 'Transfer-Encoding: chunked', ...lines) + body)

          const message = JSON.stringify([lines, body])
          for (const { headers } of application.received()) t.strictSame(identityOf(headers), identified, message)
        }
      }
    })

    t.test('every method is authenticated and forwarded', async (t) => {
      for (const method of METHODS.filter((method) => method !== 'CONNECT')) {
        const refusal = refusedMethods[name]?.[method]
        t.equal((await raw({ url }, head(`${method} /x`)))?.status, refusal ?? 401, method)
        t.strictSame(application.received(), [], method)
        t.equal((await raw({ url }, head(`${method} /x`, bearer)))?.status, refusal ?? 200, method)
        if (refusal === undefined) t.match(application.received(), [{ method, url: '/x' }], method)
      }
    })

    t.test('every path is authenticated and forwarded unchanged', async (t) => {
      for (const path of paths) {
        t.equal((await raw({ url }, head(`GET ${path}`)))?.status, 401, path)
        t.strictSame(application.received(), [], path)
        t.equal((await raw({ url }, head(`GET ${path}`, bearer)))?.status, 200, path)
        t.strictSame(application.received().map(({ url, headers }) => [url, identityOf(headers)]), [[path, identified]])
      }
    })

    t.test('no odd path lets a request through without authentication', async (t) => {
      for (const path of oddPaths) {
        await raw({ url }, head(`GET ${path}`))
        t.strictSame(application.received(), [], path)
        await raw({ url }, head(`GET ${path}`, bearer, 'X-User-Id: 1'))
        for (const { headers } of application.received()) t.strictSame(identityOf(headers), identified, path)
      }
    })

    t.test('a body reaches the application byte for byte', async (t) => {
      const body = randomBytes(300_000)
      const sha256 = createHash('sha256').update(body).digest('hex')
      const chunks = [body.subarray(0, 1), body.subarray(1, 70_000), body.subarray(70_000)].flatMap((chunk) =>
        [Buffer.from(`${chunk.length.toString(16)}\r\n`), chunk, Buffer.from('\r\n')])
      const framings: Array<[string, Buffer]> = [
        [`Content-Length: ${body.length}`, body],
        ['Transfer-Encoding: chunked', Buffer.concat([...chunks, Buffer.from('0\r\n\r\n')])]
      ]
      for (const [framing, bytes] of framings) {
        for (const more of [[], ['Expect: 100-continue']]) {
          const lines = Buffer.from(head('POST /upload', bearer, framing, ...more))
          t.equal((await raw({ url }, Buffer.concat([lines, bytes])))?.status, 200, framing)
          t.match(application.received(), [{ method: 'POST', url: '/upload', sha256 }], framing)
        }
      }
    })

    t.test('HAProxy lets no request through if its script does not run', async (t) => {
      if (name !== 'haproxy') return
      const url = await start({ 'http-request lua.verify_token unless own': '' })
      t.equal((await raw({ url }, head('GET /', bearer)))?.status, 503)
      t.equal((await raw({ url }, head('GET /', bearer, 'X-User-Id: 1')))?.status, 503)
      t.strictSame(application.received(), [])
    })

    t.test('phone-auth sees the client IP that the gateway saw, and serves its own routes itself', async (t) => {
      const other = newPhone()
      const headers = { 'x-forwarded-for': '203.0.113.9' }
      await request('POST', '/auth/send-verification', { body: { phone: other }, headers })
      const sent = replicas.flatMap(({ stdout }) => logLines(stdout)).filter(({ event }) => event === 'code_sent')
      t.ok(sent.length >= 2)
      t.strictSame([...new Set(sent.map(({ client }) => client))], ['127.0.0.1'])
      t.match(await request('GET', '/api/v1/users/me', { token }), { status: 200, body: { phone_number: phone } })
      t.match(await request('GET', '/api/v1/profile/addresses', { token }), { status: 200, body: { total: 0 } })
      t.match(await request('GET', '/api/v1/users/me'), { status: 401, body: { code: 'token_missing' } })
      t.strictSame(application.received(), [])
    })

    t.test('a body that is too large for phone-auth gets its 413', async (t) => {
      for (const size of [16_385, 40_000, 150_000]) {
        const json = JSON.stringify({ phone: newPhone(), language: 'x'.repeat(size) })
        const framings = [
          [`Content-Length: ${json.length}`, json],
          ['Transfer-Encoding: chunked', `${json.length.toString(16)}\r\n${json}\r\n0\r\n\r\n`]
        ]
        for (const [framing = '', body = ''] of framings) {
          const lines = head('POST /auth/send-verification', 'Content-Type: application/json', framing)

          const response = await raw({ url }, lines + body)

          t.equal(response?.status, 413, `${framing}, ${size}`)
          t.match(JSON.parse(response?.text ?? ''), { code: 'payload_too_large' }, `${framing}, ${size}`)
        }
      }
    })

    t.test('without PostgreSQL the response is 503 with Retry-After; afterwards the same token works', async (t) => {
      await postgres.stop()
      await isUnavailable(t)
      await until(async () => (await request('GET', '/api/v1/users/me', { token })).status === 503)
      await isUnavailable(t)
      t.strictSame(application.received(), [])
      await postgres.start()
      await until(async () => (await request('GET', '/', { token })).status === 200)
      t.ok(application.received().length > 0)
    })

    t.test('one replica can end without a failed request; without any replica the response is 503', async (t) => {
      await replicas[0].stop()
      for (let i = 0; i < 50; i++) t.equal((await request('POST', '/', { token })).status, 200)
      await replicas[1].stop()
      application.received()
      await isUnavailable(t)
      t.match(await request('GET', '/auth/markets'), { status: 503, body: { code: 'unavailable' } })
      t.strictSame(application.received(), [])
      await startReplica(0)
      await until(async () => (await request('GET', '/', { token })).status === 200)
    })
  })
}
