import t, { type Test } from 'tap'
import { newPhone, testService, type TestResponse, type RequestOptions, type Service } from '../helpers/service.js'

const origin = 'https://app.example.com'
const api = '/api/v1'

/**
 * What a page may do and read without permission (Fetch standard: CORS-safelisted methods, request and response
 * headers).
 */
const safeMethods = ['GET', 'HEAD', 'POST']
const safeRequestHeaders = ['accept', 'accept-language']
const safeResponseHeaders = [
  'cache-control', 'content-language', 'content-length', 'content-type', 'expires', 'last-modified', 'pragma'
]

const list = (headers: Headers, name: string) =>
  (headers.get(name) ?? '').split(',').map((item) => item.trim().toLowerCase())

/**
 * A client that follows the Fetch standard for a page of `from`: it sends a preflight where necessary, throws where a
 * browser does, and returns the headers that a page may read.
 */
const browser = (service: Service, from = origin) => async (
  method: string, path: string, { token, body, headers = {} }: RequestOptions = {}
) => {
  const own = [
    ...token ? ['authorization'] : [], ...body === undefined ? [] : ['content-type'], ...Object.keys(headers)
  ]
    .filter((name) => !safeRequestHeaders.includes(name)).sort()
  const permits = ({ headers }: TestResponse) => {
    if (headers.get('access-control-allow-origin') !== from) {
      throw new TypeError(`${method} ${path} is not open to ${from}`)
    }
  }
  if (own.length > 0 || !safeMethods.includes(method)) {
    const preflight = await service.request('OPTIONS', path, {
      headers: {
        origin: from,
        'access-control-request-method': method,
        ...own.length > 0 && { 'access-control-request-headers': own.join(',') }
      }
    })
    permits(preflight)
    if (preflight.status !== 204) {
      throw new TypeError(`the preflight of ${method} ${path} responded ${preflight.status}`)
    }
    const methods = list(preflight.headers, 'access-control-allow-methods')
    if (!safeMethods.includes(method) && !methods.includes(method.toLowerCase())) {
      throw new TypeError(`${method} is not allowed`)
    }
    const allowed = list(preflight.headers, 'access-control-allow-headers')
    for (const name of own) if (!allowed.includes(name)) throw new TypeError(`${name} is not allowed`)
  }
  const response = await service.request(method, path, { token, body, headers: { ...headers, origin: from } })
  permits(response)
  const readable = [...safeResponseHeaders, ...list(response.headers, 'access-control-expose-headers')]
  return { ...response, headers: new Headers([...response.headers].filter(([name]) => readable.includes(name))) }
}

const start = (t: Test, env: Record<string, string> = {}) =>
  testService(t, { env: { CORS_ORIGINS: `https://admin.example.com,${origin}`, ...env } })

t.test('a page of a listed origin does all that an app does, and reads the headers that it needs', async (t) => {
  const service = await start(t)
  const page = browser(service)
  const phone = newPhone()
  service.confidential.add(phone)

  const sent = await page('POST', `${api}/auth/send-verification`, {
    body: { phone }, headers: { 'accept-language': 'ky', 'x-request-id': 'of-the-page' }
  })
  t.equal(sent.status, 200)
  t.equal(sent.headers.get('x-request-id'), 'of-the-page')
  for (const name of ['ratelimit-limit', 'ratelimit-remaining', 'ratelimit-reset']) {
    t.match(sent.headers.get(name), /^\d+$/, name)
  }
  const tooSoon = await page('POST', `${api}/auth/send-verification`, { body: { phone } })
  t.equal(tooSoon.headers.get('retry-after'), String(tooSoon.body.retry_after))

  const { body: { access_token: token } } = await page('POST', `${api}/auth/verify-code`, {
    body: { phone, verification_code: service.codeOf(phone) }
  })
  t.equal((await page('GET', `${api}/auth/markets`)).status, 200)
  t.equal((await page('GET', `${api}/users/me`, { token })).status, 200)
  t.equal((await page('PATCH', `${api}/users/me`, { token, body: { full_name: 'A name' } })).status, 200)

  const created = await page('POST', `${api}/profile/addresses`, {
    token, body: { title: 'Home', full_address: 'A street' }
  })
  t.equal(created.status, 201)
  const location = created.headers.get('location') as string
  t.equal((await page('GET', location, { token })).status, 200)
  t.equal((await page('PUT', location, { token, body: { title: 'Work' } })).status, 200)
  t.equal((await page('DELETE', location, { token })).status, 200)

  t.equal((await page('POST', `${api}/auth/logout`, { token })).status, 200)
  const dead = await page('GET', `${api}/users/me`, { token })
  t.equal(dead.status, 401)
  t.equal(dead.headers.get('www-authenticate'), 'Bearer realm="phone-auth", error="invalid_token"')
  t.equal((await page('GET', `${api}/users/me`)).headers.get('www-authenticate'), 'Bearer realm="phone-auth"')
})

t.test('a page can read a problem from the router, from the parser and from a route', async (t) => {
  const page = browser(await start(t))
  const token = 'not.a.token'
  const unreadable = { status: 400, code: 'bad_request' }
  const refusals: Array<[string, string, RequestOptions, object]> = [
    ['GET', '/auth/%', {}, unreadable],
    ['GET', `${api}/profile/addresses/50%`, { token }, unreadable],
    ['GET', `${api}/profile/addresses/${'1'.repeat(200)}`, { token }, { status: 404, code: 'not_found' }],
    ['DELETE', '/nothing', {}, { status: 404, code: 'not_found' }],
    ['PUT', '/auth/markets', {}, { status: 405, code: 'method_not_allowed' }],
    ['POST', '/auth/send-verification', { body: '{' }, unreadable],
    [
      'POST', '/auth/send-verification', { body: { phone: '1'.repeat(20_000) } },
      { status: 413, code: 'payload_too_large' }
    ],
    [
      'POST', '/auth/send-verification', { body: 'x', headers: { 'content-type': 'text/plain' } },
      { status: 415, code: 'unsupported_media_type' }
    ]
  ]
  for (const [method, path, options, expected] of refusals) {
    const { status, headers, body } = await page(method, path, options)
    t.strictSame({ status, code: body.code }, expected, `${method} ${path.slice(0, 40)}`)
    t.equal(headers.get('x-request-id'), body.request_id)
  }
})

t.test('every exposed header is sent, and every header of the service is exposed', async (t) => {
  const service = await start(t, { RATE_LIMIT_IP_MAX: '2' })
  const headers = { origin }
  const phone = newPhone()
  const { token } = await service.login(phone)
  const responses = [
    await service.request('POST', '/auth/send-verification', { body: { phone }, headers }),
    await service.request('GET', `${api}/users/me`, { headers }),
    await service.request('POST', `${api}/profile/addresses`, {
      token, body: { title: 'Home', full_address: 'A street' }, headers
    })
  ]
  t.strictSame(responses.map(({ status }) => status), [429, 401, 201])
  const sent = new Set(responses.flatMap(({ headers }) => [...headers.keys()]))
  const exposed = list(responses[0]!.headers, 'access-control-expose-headers')
  for (const name of exposed) t.ok(sent.has(name), `${name} is sent`)
  const ofTransport = /^(?:access-control-.*|connection|date|keep-alive|vary)$/
  t.strictSame(
    [...sent].filter((name) => !ofTransport.test(name) && !safeResponseHeaders.includes(name)).sort(), exposed.sort()
  )
})

t.test('a preflight needs no token, counts against no client IP and is cached for ten minutes', async (t) => {
  const service = await start(t, { RATE_LIMIT_IP_MAX: '1' })
  const phone = newPhone()
  const asks = { origin, 'access-control-request-method': 'POST', 'access-control-request-headers': 'content-type' }
  for (let times = 0; times < 5; times++) {
    const { status, headers } = await service.request('OPTIONS', '/auth/send-verification', { headers: asks })
    t.equal(status, 204)
    t.equal(headers.get('access-control-max-age'), '600')
  }
  t.equal((await service.request('OPTIONS', `${api}/users/me`, { headers: asks })).status, 204)
  t.equal((await service.send(phone)).status, 200)
})

t.test('CORS allows no credentials, and nothing to pages of other origins', async (t) => {
  const service = await start(t)
  for (const { headers } of [
    await service.request('GET', '/auth/markets', { headers: { origin } }),
    await service.request('OPTIONS', `${api}/users/me`, { headers: { origin, 'access-control-request-method': 'GET' } })
  ]) t.notOk(headers.has('access-control-allow-credentials'))
  for (const other of ['https://evil.example.com', 'http://app.example.com', 'null']) {
    const page = browser(service, other)
    await t.rejects(page('GET', '/auth/markets'), TypeError, other)
    await t.rejects(page('GET', '/auth/%'), TypeError, other)
    await t.rejects(page('POST', '/auth/send-verification', { body: { phone: newPhone() } }), TypeError, other)
  }
  t.strictSame(service.sms, [], 'the preflight stops the pages of other origins')
})
