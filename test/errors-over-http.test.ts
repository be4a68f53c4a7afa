import { once } from 'node:events'
import { METHODS, STATUS_CODES, type IncomingMessage } from 'node:http'
import { connect, type Socket } from 'node:net'
import fc from 'fast-check'
import t, { type Test } from 'tap'
import { SmsRefused } from '../src/messages/index.js'
import { freePort } from './helpers/free-port.js'
import { head, rawRequest } from './helpers/raw.js'
import { newPhone, testService, type TestResponse, type Json } from './helpers/service.js'

const send = '/api/v1/auth/send-verification'
const verify = '/api/v1/auth/verify-code'
const me = '/api/v1/users/me'
const addresses = '/api/v1/profile/addresses'

/** Asserts that a response is a problem. `extras` are its members in addition to the usual ones. */
function isProblem (t: Test, response: TestResponse, expected: { status: number, code: string }, extras: object = {}) {
  const { status, headers, body } = response
  t.match(headers.get('content-type'), /^application\/problem\+json(; charset=utf-8)?$/)
  t.strictSame(body, {
    type: 'about:blank',
    title: STATUS_CODES[expected.status],
    status: expected.status,
    detail: body.detail,
    code: expected.code,
    request_id: headers.get('x-request-id'),
    ...extras
  }, `${expected.status} ${expected.code}`)
  t.equal(status, expected.status)
  t.match(body.detail, /^[A-Z].{10,}\.$/s, 'a sentence')
  t.match(body.request_id, /^[A-Za-z0-9_-]{1,64}$/)
  t.match(headers.get('cache-control'), 'no-store')
}

const fields = ({ body }: TestResponse) => (body.errors as Array<{ field: string }>).map(({ field }) => field)
/** The bytes of a POST with a body of any bytes as JSON. */
const postBytes = (path: string, body: Buffer) =>
  Buffer.concat(
    [Buffer.from(head(`POST ${path}`, 'Content-Type: application/json', `Content-Length: ${body.length}`)), body])

/** The service of all tests that need no special setting. Each test has its own numbers. */
const service = await testService(t)
const sentTo = (phone: string) => service.sms.filter(({ to }) => to === phone).length

t.test('every error of the contract is a problem', async (t) => {
  const { token } = await service.login(newPhone())
  const pending = newPhone()
  await service.send(pending)
  const wrong = service.codeOf(pending) === '000000' ? '111111' : '000000'

  await t.test('400', async (t) => {
    isProblem(t, await service.request('POST', send, { body: '{' }), { status: 400, code: 'bad_request' })
    isProblem(t, await service.verify(newPhone(), '123456'), { status: 400, code: 'invalid_code' })
    isProblem(t, await service.verify(pending, wrong), { status: 400, code: 'invalid_code' }, { attempts_remaining: 4 })
  })

  await t.test('401', async (t) => {
    const missing = await service.request('GET', me)
    isProblem(t, missing, { status: 401, code: 'token_missing' })
    t.equal(missing.headers.get('www-authenticate'), 'Bearer realm="phone-auth"')
    const forged = await service.request('GET', me, { token: `${token.slice(0, -8)}AAAAAAAA` })
    isProblem(t, forged, { status: 401, code: 'invalid_token' })
    t.equal(forged.headers.get('www-authenticate'), 'Bearer realm="phone-auth", error="invalid_token"')
  })

  await t.test('404', async (t) => {
    for (const path of [
      '/', '/nothing', '/api/v1', '/api/v1/', '/api/v1/users', `${me}/`, '/api/v1/auth/verify-code/x', '//health/live',
      '/users/me'
    ]) {
      isProblem(t, await service.request('GET', path), { status: 404, code: 'not_found' })
    }
    isProblem(t, await service.request('GET', `${addresses}/2147483647`, { token }), { status: 404, code: 'not_found' })
    isProblem(t, await service.request('GET', `${addresses}/${'9'.repeat(1000)}`, { token }),
      { status: 404, code: 'not_found' })
    isProblem(t, await rawRequest(service.url, head('OPTIONS *')), { status: 404, code: 'not_found' })
  })

  await t.test('405', async (t) => {
    isProblem(t, await service.request('PUT', send), { status: 405, code: 'method_not_allowed' })
  })

  await t.test('409', async (t) => {
    const { token, user } = await service.login(newPhone())
    await service.sql(`INSERT INTO user_addresses
      (user_id, title, full_address, country, is_default, created_at, updated_at)
      SELECT $1, 'Home', 'Street ' || n, 'Kyrgyzstan', n = 1, now(), now() FROM generate_series(1, 50) n`, [user.id])
    isProblem(t, await service.request('POST', addresses,
      { token, body: { title: 'Home', full_address: 'Street 51' } }), { status: 409, code: 'address_limit' })
    await service.sql('CREATE TABLE orders (user_id INTEGER REFERENCES users)')
    await service.sql('INSERT INTO orders VALUES ($1)', [user.id])
    isProblem(t, await service.request('DELETE', me, { token }), { status: 409, code: 'account_in_use' })
  })

  await t.test('413', async (t) => {
    const body = (length: number) => JSON.stringify({
      phone: 'no number', more: 'x'.repeat(length - JSON.stringify({ phone: 'no number', more: '' }).length)
    })
    t.equal((await service.request('POST', send, { body: body(16_384) })).status, 422, '16 KiB are read')
    isProblem(t, await service.request('POST', send, { body: body(16_385) }),
      { status: 413, code: 'payload_too_large' })
    const chunkedHead = head(`POST ${send}`, 'Content-Type: application/json', 'Transfer-Encoding: chunked')
    const chunked = `${chunkedHead}4001\r\n${'x'.repeat(0x4001)}\r\n0\r\n\r\n`
    isProblem(t, await rawRequest(service.url, chunked), { status: 413, code: 'payload_too_large' })
  })

  await t.test('415', async (t) => {
    for (const type of [
      'text/plain', 'application/x-www-form-urlencoded', 'multipart/form-data; boundary=x', 'application/jsonx',
      'application/xml', 'json', 'application/json, application/json'
    ]) {
      isProblem(t, await service.request('POST', send, {
        body: '{"phone":"+996555123456"}', headers: { 'content-type': type }
      }), { status: 415, code: 'unsupported_media_type' })
    }
    isProblem(t, await rawRequest(service.url, `${head(`POST ${send}`, 'Content-Length: 2')}{}`),
      { status: 415, code: 'unsupported_media_type' })
  })

  await t.test('422', async (t) => {
    const invalid = await service.request('POST', send, { body: {} })
    isProblem(t, invalid, { status: 422, code: 'invalid_request' },
      { errors: [{ field: '/phone', message: 'is required' }] })
    isProblem(t, await service.send('+14165551234'), { status: 422, code: 'unsupported_phone' },
      { errors: [{ field: '/phone', message: 'is not a number of any market: use one that starts with +996 or +1' }] })
  })

  await t.test('429', async (t) => {
    const again = await service.send(pending)
    isProblem(t, again, { status: 429, code: 'resend_too_soon' },
      { retry_after: Number(again.headers.get('retry-after')) })
    t.ok(again.body.retry_after > 0 && again.body.retry_after <= 60)
  })

  await t.test('431', async (t) => {
    t.equal((await rawRequest(service.url, head('GET /health/live', `X-Long: ${'x'.repeat(16_000)}`))).status, 200)
    isProblem(t, await rawRequest(service.url, head('GET /health/live', `X-Long: ${'x'.repeat(16_400)}`)),
      { status: 431, code: 'headers_too_large' })
    isProblem(t, await rawRequest(service.url, head(`GET /${'x'.repeat(16_400)}`)),
      { status: 431, code: 'headers_too_large' })
  })
})

t.test('a refused send is a problem with retry_after', async (t) => {
  const service = await testService(t,
    { env: { CODE_SENDS_PER_HOUR: '1', CODE_RESEND_SECONDS: '1' }, overrides: { clock: laterEachTime() } })
  const phone = newPhone()
  await service.send(phone)
  const response = await service.send(phone)
  isProblem(t, response, { status: 429, code: 'too_many_sends' },
    { retry_after: Number(response.headers.get('retry-after')) })
  t.ok(response.body.retry_after > 60)
})

/** A clock that moves on by two seconds with every call. */
function laterEachTime () {
  let now = Date.now()
  return () => (now += 2000)
}

t.test('a message that the provider refuses is a problem', async (t) => {
  const service = await testService(t,
    { overrides: { sms: async () => { throw new SmsRefused('the provider says no to +996555000000') } } })
  const response = await service.send(newPhone())
  isProblem(t, response, { status: 502, code: 'sms_failed' })
})

t.test('a PostgreSQL that does not respond is a problem with retry_after', async (t) => {
  const service = await testService(t,
    { env: { DATABASE_URL: `postgres://nobody:database-password@127.0.0.1:${await freePort()}/none` } })
  service.confidential.add('database-password')
  const response = await service.send(newPhone())
  isProblem(t, response, { status: 503, code: 'unavailable' }, { retry_after: 2 })
  t.equal(response.headers.get('retry-after'), '2')
})

t.test('a Redis that does not respond is a problem with retry_after', async (t) => {
  const service = await testService(t, { env: { REDIS_URL: `redis://:redis-password@127.0.0.1:${await freePort()}` } })
  service.confidential.add('redis-password')
  const response = await service.verify(newPhone(), '123456')
  isProblem(t, response, { status: 503, code: 'unavailable' }, { retry_after: 2 })
  t.equal(response.headers.get('retry-after'), '2')
})

t.test('a bug is internal_error without details', async (t) => {
  const thrown: unknown[] = [
    new Error('secret detail'),
    Object.assign(new TypeError('secret detail'), { statusCode: 500 }),
    Object.assign(new Error('secret detail'), { code: 'ERR_SECRET' }),
    'secret detail', null, undefined, { message: 'secret detail' }, 42
  ]
  const service = await testService(t, { overrides: { newNonce: () => { throw thrown.shift() } } })
  for (const count = thrown.length; thrown.length > 0;) {
    const response = await service.send(newPhone())
    isProblem(t, response, { status: 500, code: 'internal_error' })
    t.notMatch(JSON.stringify([response.body, [...response.headers]]), /secret/i,
      `thrown value ${count - thrown.length}`)
  }
})

t.test('X-Request-Id is returned unchanged if it is 1 to 64 of A-Za-z0-9_-', async (t) => {
  for (const id of ['a', 'Z9_-', '-', 'x'.repeat(64), '7e2b9a4c-6f0d-4c39-9f5e-2f6d1c1b8a10']) {
    const { headers, body } = await service.request('GET', '/nothing', { headers: { 'x-request-id': id } })
    t.equal(headers.get('x-request-id'), id)
    t.equal(body.request_id, id)
    const live = await service.request('GET', '/health/live', { headers: { 'x-request-id': id } })
    t.equal(live.headers.get('x-request-id'), id, 'also on success')
  }
})

t.test('any other X-Request-Id is replaced by a new one', async (t) => {
  const seen = new Set<string>()
  for (const headers of [
    [], ['X-Request-Id:'], ['X-Request-Id: a b'], [`X-Request-Id: ${'x'.repeat(65)}`], ['X-Request-Id: a.b'],
    ['X-Request-Id: {"a":1}'], ['X-Request-Id: é'], ['X-Request-Id: a', 'X-Request-Id: b']
  ]) {
    const response = await rawRequest(service.url, head('GET /nothing', ...headers))
    isProblem(t, response, { status: 404, code: 'not_found' })
    t.match(response.body.request_id, /^[0-9a-f]{8}-[0-9a-f]{4}-4[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}$/,
      headers.join())
    seen.add(response.body.request_id)
  }
  t.equal(seen.size, 8)
})

t.test('a body that is not JSON is bad_request', async (t) => {
  const phone = newPhone()
  for (const body of [
    '{', ' ', '{"phone":}', `{'phone':'${phone}'}`, `{"phone":"${phone}"} x`, '{"phone":"\0"}', '<html>', 'undefined',
    'NaN', `{"phone":"${phone}",}`
  ]) {
    isProblem(t, await service.request('POST', send, { body }), { status: 400, code: 'bad_request' })
  }
  for (const bytes of [[0xff, 0xfe], [0xc0, 0xaf], [0xed, 0xa0, 0x80]]) {
    const body = Buffer.concat([Buffer.from(`{"phone":"${phone}","more":"`), Buffer.from(bytes), Buffer.from('"}')])
    isProblem(t, await rawRequest(service.url, postBytes(send, body)), { status: 400, code: 'bad_request' })
  }
  t.equal(sentTo(phone), 0)
})

t.test('a body that would change the prototype of an object is bad_request', async (t) => {
  const phone = newPhone()
  for (const body of [
    `{"phone":"${phone}","__proto__":{"language":"ky"}}`,
    `{"phone":"${phone}","\\u005f_proto__":{"language":"ky"}}`,
    `{"phone":"${phone}","more":[{"__proto__":1}]}`,
    `{"phone":"${phone}","constructor":{"prototype":{"language":"ky"}}}`
  ]) isProblem(t, await service.request('POST', send, { body }), { status: 400, code: 'bad_request' })
  t.equal(sentTo(phone), 0)
})

t.test('of duplicate members the last one counts', async (t) => {
  const phone = newPhone()
  isProblem(t, await service.request('POST', send, { body: `{"phone":"${phone}","phone":"no number"}` }),
    { status: 422, code: 'invalid_request' },
    { errors: [{ field: '/phone', message: 'must be a phone number with its country code, like +996 555 123 456' }] })
  t.equal((await service.request('POST', send, { body: `{"phone":"no number","phone":"${phone}"}` })).status, 200)
  t.equal(sentTo(phone), 1)
})

t.test('a bad escape in the path is bad_request', async (t) => {
  for (const path of [
    '/%', '/%zz', '/%ff', '/%c3%28', `${addresses}/%e0%a4`, '/auth/verify-code%', '/health/live%80'
  ]) {
    isProblem(t, await rawRequest(service.url, head(`GET ${path}`)), { status: 400, code: 'bad_request' })
  }
  t.equal((await rawRequest(service.url, head('GET /health/live?%zz=%ff&a[__proto__]=1'))).status, 200,
    'the query is not decoded')
})

t.test('a malformed Authorization is bad_request', async (t) => {
  const { token } = await service.login(newPhone())
  t.equal((await rawRequest(service.url, head(`GET ${me}`, `Authorization: Bearer ${token}`))).status, 200)
  t.equal((await rawRequest(service.url, head(`GET ${me}`, `authorization: bearer ${token}`))).status, 200,
    'the scheme is case-insensitive')
  for (const headers of [
    [`Authorization: Bearer ${token}`, `Authorization: Bearer ${token}`],
    [`Authorization: Bearer ${token}`, 'Authorization:'],
    [`Authorization: Bearer  ${token}`], [`Authorization: Bearer\t${token}`], [`Authorization: Bearer ${token} more`],
    [`Authorization: Bearer ${token},`],
    [`Authorization: Bearer ${token}, Bearer ${token}`], [`Authorization: Bearer "${token}"`],
    ['Authorization: Basic eDp5', 'Authorization: Basic eDp5'], ['Authorization:', 'Authorization:'],
    ['Authorization: Basic\teDp5'],
    ['Authorization: Bearer =='], ['Authorization: Bearer é']
  ]) isProblem(t, await rawRequest(service.url, head(`GET ${me}`, ...headers)), { status: 400, code: 'bad_request' })
})

t.test('an Authorization of another scheme or without a token is token_missing, with a challenge', async (t) => {
  const { token } = await service.login(newPhone())
  for (const value of [
    '', 'Bearer', 'bearer', 'Bearer ', 'Basic eDp5', `Token ${token}`, token, `BearerX ${token}`, `Bearer=${token}`,
    `Basic x, Bearer ${token}`,
    'Digest username="x", realm="phone-auth", nonce="y"', 'Negotiate', 'é'
  ]) {
    const response = await rawRequest(service.url, head(`GET ${me}`, `Authorization: ${value}`))
    isProblem(t, response, { status: 401, code: 'token_missing' })
    t.equal(response.headers.get('www-authenticate'), 'Bearer realm="phone-auth"', value)
  }
})

t.test('types are never coerced', async (t) => {
  const { token } = await service.login(newPhone())
  const refused = async (method: string, path: string, body: Json, ...expected: string[]) => {
    const response = await service.request(method, path, { token, body })
    isProblem(t, response, { status: 422, code: 'invalid_request' }, { errors: response.body.errors })
    t.strictSame(fields(response), expected, JSON.stringify(body))
    for (const { message } of response.body.errors) t.type(message, 'string')
  }
  for (const phone of [13128059851, true, null, ['+13128059851'], { phone: '+13128059851' }]) {
    await refused('POST', send, { phone }, '/phone')
  }
  for (const code of [123456, null, ['123456'], true]) {
    await refused('POST', verify, { phone: newPhone(), verification_code: code }, '/verification_code')
  }
  for (const language of [0, null, false, ['ru']]) {
    await refused('POST', send, { phone: newPhone(), language }, '/language')
  }
  for (const name of [1, true, ['a'], {}]) await refused('PATCH', me, { full_name: name }, '/full_name')
  for (const url of [1, false, ['https://example.com/']]) {
    await refused('PATCH', me, { profile_image_url: url }, '/profile_image_url')
  }
  for (const isDefault of ['true', 1, 0, null, '']) {
    await refused('POST', addresses, { title: 'Home', full_address: 'Street 1', is_default: isDefault }, '/is_default')
  }
  for (const body of ['[]', 'null', 'true', '"phone"', '1', `["${newPhone()}"]`]) await refused('POST', send, body, '')
  t.equal((await service.request('GET', addresses, { token })).body.total, 0)
})

t.test('errors names each wrong member once, with the reason', async (t) => {
  const { token } = await service.login(newPhone())
  const errorsOf = async (method: string, path: string, body: object) => {
    const response = await service.request(method, path, { token, body })
    isProblem(t, response, { status: 422, code: 'invalid_request' }, { errors: response.body.errors })
    return response.body.errors
  }
  t.strictSame(await errorsOf('POST', verify, {}),
    [{ field: '/phone', message: 'is required' }, { field: '/verification_code', message: 'is required' }])
  t.strictSame(await errorsOf('POST', verify, { phone: '', verification_code: '12345' }), [
    { field: '/phone', message: 'must not be empty' }, { field: '/verification_code', message: 'must have six digits' }
  ])
  t.strictSame(await errorsOf('POST', send, { phone: 'x'.repeat(65), language: 'zz' }), [
    { field: '/phone', message: 'must have at most 64 characters' },
    { field: '/language', message: 'must be one of ru, en, ky' }
  ])
  t.strictSame(await errorsOf('POST', send, { phone: 1, language: 1 }), [
    { field: '/phone', message: 'must be a string' }, { field: '/language', message: 'must be a string' }
  ])
  t.strictSame(await errorsOf('PATCH', me, { full_name: 1, profile_image_url: 'ftp://example.com/' }), [
    { field: '/full_name', message: 'must be a string' },
    {
      field: '/profile_image_url',
      message: 'must be an http or https URL of a host name with a dot, without user and password'
    }
  ])
  t.strictSame(await errorsOf('POST', addresses, { full_address: ' ', street: 'x'.repeat(201), is_default: 'yes' }), [
    { field: '/title', message: 'is required' },
    { field: '/full_address', message: 'must not be blank' },
    { field: '/street', message: 'must have at most 200 characters' },
    { field: '/is_default', message: 'must be a boolean' }
  ])
})

t.test('errors names a member that a keyword without its own text refuses', async (t) => {
  const schema = { body: { type: 'object', properties: { count: { type: 'integer', minimum: 1 } } } }
  const counting = await testService(t,
    { overrides: { async routes (app) { app.post('/count', { schema }, async () => ({})) } } })

  isProblem(t, await counting.request('POST', '/count', { body: { count: 0 } }),
    { status: 422, code: 'invalid_request' },
    { errors: [{ field: '/count', message: 'does not have the expected form' }] })
})

t.test('text that PostgreSQL cannot store unchanged is invalid_request', async (t) => {
  const { token } = await service.login(newPhone())
  for (const bad of ['a\0b', '\0', '\ud800', 'a\udc00b', '\udc00\ud800']) {
    for (const [method, path, field, body] of [
      ['POST', send, '/phone', { phone: bad }],
      ['POST', verify, '/verification_code', { phone: newPhone(), verification_code: bad }],
      ['PATCH', me, '/full_name', { full_name: bad }],
      ['PATCH', me, '/profile_image_url', { profile_image_url: `https://example.com/${bad}` }],
      ['POST', addresses, '/title', { title: bad, full_address: 'Street 1' }],
      ['POST', addresses, '/full_address', { title: 'Home', full_address: bad }],
      ['POST', addresses, '/street', { title: 'Home', full_address: 'Street 1', street: bad }]
    ] as const) {
      const response = await service.request(method, path, { token, body })
      isProblem(t, response, { status: 422, code: 'invalid_request' }, { errors: response.body.errors })
      t.strictSame(fields(response), [field], JSON.stringify(body))
    }
  }
  const name = 'Айгүл 😀 \u200d\ufffd'
  t.equal((await service.request('PATCH', me, { token, body: { full_name: name } })).body.full_name, name,
    'whole characters are stored')
})

t.test('unknown members are ignored and not stored', async (t) => {
  const phone = newPhone()
  t.equal((await service.send(phone,
    { market: 'us', phone_number: newPhone('us'), is_admin: true, nested: { a: [1] } })).status, 200)
  const login = await service.request('POST', verify,
    { body: { phone, verification_code: service.codeOf(phone), full_name: 'Mallory', id: 1 } })
  const { access_token: token, user } = login.body
  const row = async () => (await service.sql('SELECT *, NULL AS updated_at FROM users WHERE id = $1', [user.id]))[0]
  const before = await row()
  const { status } = await service.request('PATCH', me, {
    token,
    body: {
      id: 7,
      phone_number: newPhone(),
      is_verified: false,
      is_active: false,
      market: 'us',
      country: 'X',
      last_login: null,
      created_at: null,
      email: 'a@b.c'
    }
  })
  t.equal(status, 200)
  t.strictSame(await row(), before)
  const { body } = await service.request('POST', addresses, {
    token,
    body: { title: 'Home', full_address: 'Street 1', id: 999, user_id: 1, created_at: '2000-01-01T00:00:00Z', more: 1 }
  })
  t.not(body.address.id, 999)
  t.strictSame(await service.sql('SELECT user_id FROM user_addresses WHERE id = $1', [body.address.id]),
    [{ user_id: user.id }])
})

t.test('an empty body counts as no body, also with a JSON content type', async (t) => {
  const json = { headers: { 'content-type': 'application/json' } }
  const signedIn = async () => (await service.login(newPhone())).token
  for (const options of [
    {}, json, { headers: { 'content-type': 'application/json; charset=utf-8' } }, { body: '{}' }
  ]) {
    t.equal((await service.request('POST', '/api/v1/auth/logout', { token: await signedIn(), ...options })).status, 200)
  }
  t.equal((await service.request('DELETE', me, { token: await signedIn(), ...json })).status, 204)
  t.equal((await service.request('GET', me, { token: await signedIn(), ...json })).status, 200)
  for (const path of [send, verify]) {
    for (const options of [{}, json]) {
      isProblem(t, await service.request('POST', path, options), { status: 422, code: 'invalid_request' },
        { errors: [{ field: '', message: 'must be an object' }] })
    }
  }
})

t.test('JSON is accepted with every spelling of its content type', async (t) => {
  for (const type of [
    'application/json', 'Application/JSON', 'application/json;charset=UTF-8', 'application/json; charset=utf-8'
  ]) {
    t.equal((await service.request('POST', send,
      { body: { phone: newPhone() }, headers: { 'content-type': type } })).status, 200, type)
  }
  const body = Buffer.from(`\ufeff{"phone":"${newPhone()}"}`)
  t.equal((await rawRequest(service.url, postBytes(send, body))).status, 200, 'a byte order mark is ignored')
})

t.test('a wrong method is 405 before the token and the body are checked', async (t) => {
  for (const [path, allow] of Object.entries({
    [send]: 'POST',
    [me]: 'GET, HEAD, PATCH, DELETE',
    [addresses]: 'GET, HEAD, POST',
    [`${addresses}/1`]: 'GET, HEAD, PUT, PATCH, DELETE',
    '/auth/markets': 'GET, HEAD',
    '/health/ready': 'GET, HEAD'
  })) {
    for (const method of METHODS) {
      if (allow.split(', ').includes(method) || ['HEAD', 'CONNECT'].includes(method)) continue
      const type = ['Content-Type: application/json', 'Content-Length: 1']
      const response = await rawRequest(service.url, `${head(`${method} ${path}`, 'Authorization: bad', ...type)}{`)
      isProblem(t, response, { status: 405, code: 'method_not_allowed' })
      t.equal(response.headers.get('allow'), allow, `${method} ${path}`)
    }
    if (!allow.includes('HEAD')) {
      const response = await service.request('HEAD', path)
      t.strictSame({ status: response.status, allow: response.headers.get('allow'), body: response.body },
        { status: 405, allow, body: '' })
    }
  }
})

t.test('bytes that are not HTTP get a problem', async (t) => {
  for (const bytes of [
    'garbage\r\n\r\n', '\0\0\0\0\r\n\r\n', 'GET\r\n\r\n', 'GET / HTTP/9.9\r\n\r\n', 'BREW / HTTP/1.1\r\n\r\n',
    'PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n',
    '\x16\x03\x01\x02\0\x01\0\x01\xfc\x03\x03', 'GET /\0 HTTP/1.1\r\n\r\n', 'GET /é HTTP/1.1\r\n\r\n',
    'GET / HTTP/1.1\r\nbad header\r\n\r\n', 'GET / HTTP/1.1\r\n: x\r\n\r\n', 'GET / HTTP/1.1\r\nX: \0\r\n\r\n',
    head(`POST ${send}`, 'Content-Length: 1', 'Content-Length: 2'), head(`POST ${send}`, 'Content-Length: -1'),
    head(`POST ${send}`, 'Content-Length: 1', 'Transfer-Encoding: chunked'),
    `${head(`POST ${send}`, 'Content-Type: application/json', 'Transfer-Encoding: chunked')}zz\r\n`
  ]) {
    const response = await rawRequest(service.url, Buffer.from(bytes, 'latin1'))
    isProblem(t, response, { status: 400, code: 'bad_request' })
    t.equal(response.headers.get('connection'), 'close')
  }
  isProblem(t, await rawRequest(service.url, 'GET /health', { isEnded: true }), { status: 400, code: 'bad_request' })
})

t.test('a response to any bytes is a problem', async () => {
  const line = fc.oneof(fc.string(), fc.string({ unit: 'binary' }),
    fc.constantFrom('GET / HTTP/1.1', 'Host: x', 'Content-Length: 5', 'Transfer-Encoding: chunked', 'Expect: x', ''))
  await fc.assert(fc.asyncProperty(fc.array(line, { maxLength: 6 }), async (lines) => {
    const { status, headers, body } = await rawRequest(service.url, lines.join('\r\n'), { isEnded: true })
    // A connection that ends before a request begins gets no response.
    return Number.isNaN(status) ||
      (headers.get('content-type')?.startsWith('application/problem+json') && body.status === status)
  }), { numRuns: 100 })
})

t.test('a request that does not arrive in time is a problem', async (t) => {
  const service = await testService(t)
  // Node checks for late requests itself. The test reports one.
  service.app.server.once('connection', (socket: Socket) =>
    service.app.server.emit('clientError', Object.assign(new Error(), { code: 'ERR_HTTP_REQUEST_TIMEOUT' }), socket))
  isProblem(t, await rawRequest(service.url, ''), { status: 408, code: 'request_timeout' })
})

t.test('after unreadable bytes the connection is closed, even if the client does not close it', async (t) => {
  const service = await testService(t)
  const client = connect({ port: Number(new URL(service.url).port), host: '127.0.0.1', allowHalfOpen: true })
  client.resume().write('garbage\r\n\r\n')
  const [socket] = await once(service.app.server, 'connection') as [Socket]
  await once(socket, 'close')
  t.ok(client.writable, 'the client did not close it')
  client.destroy()
})

t.test('a client that disconnects in the middle of its body is not an error of the service', async (t) => {
  const service = await testService(t)
  const socket = connect(Number(new URL(service.url).port), '127.0.0.1')
  socket.write(`${head(`POST ${send}`, 'Content-Type: application/json', 'Content-Length: 100')}{`)
  const [request] = await once(service.app.server, 'request') as [IncomingMessage]
  socket.destroy()
  await new Promise((resolve) => request.once('close', resolve))
  t.notMatch(service.log.join(''), '"err":')
})

t.test('an unknown expectation, a missing Host and HTTP/1.0 do no harm', async (t) => {
  for (const bytes of [
    head('GET /health/live', 'Expect: something'), head('GET /health/live', 'Expect: 200-ok'),
    'GET /health/live HTTP/1.1\r\nConnection: close\r\n\r\n', 'GET /health/live HTTP/1.0\r\n\r\n',
    head('GET http://localhost/health/live'),
    head('GET /health/live', 'Upgrade: websocket').replace('close', 'Upgrade, close')
  ]) {
    const response = await rawRequest(service.url, bytes)
    t.strictSame({ status: response.status, body: response.body }, { status: 200, body: { status: 'ok' } }, bytes)
  }
  isProblem(t, await rawRequest(service.url, head(`GET ${me}`, 'Expect: something')),
    { status: 401, code: 'token_missing' })
})
