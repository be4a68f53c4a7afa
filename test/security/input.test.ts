import { once } from 'node:events'
import http from 'node:http'
import { connect } from 'node:net'
import t, { type Test } from 'tap'
import { Compile } from 'typebox/compile'
import { ProblemSchema } from '../../src/http/problems.js'
import { raw, type RawResponse } from '../helpers/raw.js'
import { newPhone, testService, type Service } from '../helpers/service.js'

const problemDetails = Compile(ProblemSchema)
/** All methods except CONNECT, which gets no response: see test/limits/by-connection.test.ts. */
const methods = http.METHODS.filter((method) => method !== 'CONNECT')
const codes = ['bad_request', 'invalid_code', 'token_missing', 'invalid_token', 'not_found', 'method_not_allowed',
  'request_timeout', 'payload_too_large',
  'unsupported_media_type', 'headers_too_large', 'invalid_request', 'unsupported_phone', 'opted_out', 'resend_too_soon',
  'too_many_sends', 'rate_limited']

/** The reason why a response is not a problem of CONTRACT.md. Undefined if it is one. */
function flaw (response: RawResponse | undefined, status: number, code: string, isHead = false): string | undefined {
  if (response?.status !== status) return `responded ${response?.status ?? 'nothing'} ${response?.text ?? ''}`
  if (!/^application\/problem\+json(?:; charset=utf-8)?$/.test(response.headers['content-type'] ?? '')) {
    return `is ${response.headers['content-type']}`
  }
  if (isHead) return response.text === '' ? undefined : 'has a body'
  const body = JSON.parse(response.text) as Record<string, unknown>
  if (!problemDetails.Check(body) || !codes.includes(code)) return `is not a problem: ${response.text}`
  if (body.status !== status || body.code !== code || body.title !== http.STATUS_CODES[status]) {
    return `says ${response.text}`
  }
  if (body.request_id !== response.headers['x-request-id']) return `has the id ${response.headers['x-request-id']}`
  if (/<html|<!doctype|fastify|FST_|HPE_|ajv|must NOT|Unexpected|in JSON/i.test(response.text)) {
    return `contains text of a library: ${response.text}`
  }
  return undefined
}

const isProblem = (t: Test, response: RawResponse | undefined, status: number, code: string, attack: string) =>
  t.equal(flaw(response, status, code), undefined, attack)

interface Parts { method?: string, path?: string, headers?: string[], body?: string | Buffer, version?: string }

/** The bytes of a request, without any check. */
function bytes ({ method = 'GET', path = '/auth/verify-token', headers = [], body, version = 'HTTP/1.1' }: Parts) {
  const lines = [
    `${method} ${path} ${version}`, 'Host: x', ...headers,
    ...(body !== undefined ? [`Content-Length: ${Buffer.byteLength(body)}`] : []), '', ''
  ]
  return Buffer.concat([Buffer.from(lines.join('\r\n'), 'latin1'), Buffer.from(body ?? '')])
}

const json = 'Content-Type: application/json'
const post = (body: string | Buffer, headers: string[] = [json], path = '/auth/verify-code') =>
  bytes({ method: 'POST', path, headers, body })

async function signedIn (t: Test, env: Record<string, string> = {}) {
  const service = await testService(t, { env })
  const { token } = await service.login(newPhone())
  return { service, token, bearer: `Authorization: Bearer ${token}` }
}

const row = async (service: Service, token: string) => {
  const { user_id: id } = (await service.request('GET', '/auth/verify-token', { token })).body
  return (await service.sql('SELECT * FROM users WHERE id = $1', [id]))[0]
}

t.test('bytes that Node\'s parser refuses get a problem, too', async (t) => {
  const service = await testService(t)
  const attacks: Record<string, string | Buffer> = {
    'an unknown method': bytes({ method: 'HACK' }),
    'a lower-case method': bytes({ method: 'get' }),
    'the preface of HTTP/2': 'PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n',
    'a TLS hello': Buffer.from('16030100a5010000a10303', 'hex'),
    'bytes above ASCII in the path': bytes({ path: '/auth/\xff\xfe' }),
    'a space in the path': bytes({ path: '/auth/verify token' }),
    'no slash before the path': bytes({ path: 'auth/verify-token' }),
    'an unknown version': bytes({ version: 'HTTP/1.2' }),
    'line feeds alone': bytes({}).toString().replaceAll('\r\n', '\n'),
    'a header without a colon': bytes({ headers: ['garbage'] }),
    'a header without a name': bytes({ headers: [': x'] }),
    'a folded header': bytes({ headers: [' folded'] }),
    'NUL in the name of a header': bytes({ headers: ['x\0: y'] }),
    'NUL in a header': bytes({ headers: ['x: \0'] }),
    'an escape character in a header': bytes({ headers: ['x: \x1b[31m'] }),
    'two lengths': bytes({ method: 'POST', headers: ['Content-Length: 1', 'Content-Length: 2'] }),
    'a negative length': bytes({ method: 'POST', headers: ['Content-Length: -1'] }),
    'a length and chunks, as in request smuggling': bytes({
      method: 'POST', headers: ['Transfer-Encoding: chunked', 'Content-Length: 4']
    }),
    'an unknown transfer coding': bytes({
      method: 'POST', path: '/auth/verify-code', headers: [json, 'Transfer-Encoding: xchunked']
    }),
    'chunked not last': bytes({
      method: 'POST', path: '/auth/verify-code', headers: [json, 'Transfer-Encoding: chunked, gzip']
    }),
    'an invalid chunk': Buffer.concat([
      bytes({ method: 'POST', path: '/auth/verify-code', headers: [json, 'Transfer-Encoding: chunked'] }),
      Buffer.from('zz\r\n')
    ])
  }
  for (const [attack, request] of Object.entries(attacks)) {
    isProblem(t, await raw(service, request), 400, 'bad_request', attack)
  }
  const head = await raw(service, bytes({ method: 'HEAD', headers: [': x'] }))
  t.match(head, { status: 400, text: '' }, 'HEAD gets no body')
  t.equal((await service.request('GET', '/health/live')).status, 200)
})

t.test('headers above 16 KiB are 431, a body above 16 KiB is 413, with or without Content-Length', async (t) => {
  const service = await testService(t)
  const fits = `"${'a'.repeat(16_382)}"`
  for (const [attack, headers] of Object.entries({
    'one long header': [`X: ${'a'.repeat(16_400)}`],
    'many short headers': Array.from({ length: 2000 }, (_, i) => `X${i}: aaaa`)
  })) {
    isProblem(t, await raw(service, bytes({ headers })), 431, 'headers_too_large', attack)
  }
  isProblem(t, await raw(service, bytes({ path: `/${'a'.repeat(16_400)}` })), 431, 'headers_too_large', 'a long path')
  t.equal((await raw(service, bytes({ path: '/health/live', headers: [`X: ${'a'.repeat(16_000)}`] })))?.status, 200)

  t.equal((await raw(service, post(fits)))?.status, 422, 'exactly 16 KiB is read')
  isProblem(t, await raw(service, post(`${fits} `)), 413, 'payload_too_large', 'one byte more')
  isProblem(t, await raw(service, bytes({
    method: 'POST', path: '/auth/verify-code', headers: [json, 'Content-Length: 99999999999']
  })), 413, 'payload_too_large', 'announced only')
  const chunk = `1000\r\n${' '.repeat(4096)}\r\n`
  const chunked = Buffer.concat([
    bytes({ method: 'POST', path: '/auth/verify-code', headers: [json, 'Transfer-Encoding: chunked'] }),
    Buffer.from(chunk.repeat(4) + '1\r\n \r\n')
  ])
  isProblem(t, await raw(service, chunked), 413, 'payload_too_large', 'in chunks')
})

t.test('no header line within 16 KiB is lost, however many there are', async (t) => {
  const { service, bearer } = await signedIn(t)
  for (const line of ['a:', 'X-Short: 1']) {
    const lines = Array.from({ length: Math.floor(15_000 / (line.length + 2)) }, () => line)

    t.equal((await raw(service, bytes({ headers: [...lines, bearer] })))?.status, 200, `${lines.length} lines`)
    await raw(service, post(JSON.stringify({ phone: newPhone() }), [...lines, json, 'X-Forwarded-For: 203.0.113.77'],
      '/auth/send-verification'))
    t.match(JSON.parse(service.log.findLast((line) => line.includes('code_sent')) as string),
      { client: '203.0.113.77' })
  }
})

t.test('a path parameter above 100 characters, or one that is not an id, is 404 without SQL', async (t) => {
  const { service, token } = await signedIn(t)
  const queries = countQueries(service)
  const before = queries()
  const ids = ['0', '01', '-1', '+1', '1.0', '1e3', '0x1', ' 1', '1 ', '１', '१', 'NaN', 'null', '[1]', '2147483648',
    '9'.repeat(19), '9'.repeat(100), '9'.repeat(101), 'a'.repeat(5000),
    "1'--", '1;SELECT 1', '%00', '1%00', '1%0a', '%ff', '%ed%a0%80', '..', '__proto__', 'constructor', '1/..', '{id}']
  for (const id of ids) {
    for (const method of ['GET', 'DELETE', 'PATCH']) {
      const path = `/api/v1/profile/addresses/${/^[\d%a-f]+$/.test(id) ? id : encodeURIComponent(id)}`
      const { status, body } = await service.request(method, path, { token, ...(method === 'PATCH' && { body: {} }) })
      const badEscape = path.includes('%ff') || path.includes('%ed')
      t.strictSame([status, body.code], badEscape ? [400, 'bad_request'] : [404, 'not_found'],
        `${method} ${id.slice(0, 30)}`)
    }
  }
  t.strictSame(queries() - before, queries.checks(), 'only the active check queried PostgreSQL')
})

/** Counts the statements of a service. `checks` counts those of the active check. */
function countQueries ({ app: { db: { pools } } }: Service) {
  let all = 0
  let checks = 0
  for (const pool of pools) {
    const query = pool.query
    pool.query = function (this: typeof pool, ...args: unknown[]) {
      all++
      if (JSON.stringify(args[0]).includes('ANY(')) checks++
      return (query as (...args: unknown[]) => unknown).apply(this, args)
    } as typeof query
    const connect = pool.connect
    pool.connect = function (this: typeof pool, ...args: unknown[]) {
      // This is a transaction: pool.query takes its connection with a callback.
      if (args.length === 0) all++
      return (connect as (...args: unknown[]) => unknown).apply(this, args)
    } as typeof connect
  }
  return Object.assign(() => all, { checks: () => checks })
}

t.test('no value is coerced to the type of the schema', async (t) => {
  const { service, token } = await signedIn(t)
  const before = await row(service, token)
  const notText = [1, 0, true, false, null, [], {}, ['+996555123456'], { phone: '+996555123456' }, 996555123456]
  for (const phone of notText) {
    const { status, body } = await service.request('POST', '/auth/send-verification', { body: { phone } })
    t.strictSame([status, body.code, body.errors],
      [422, 'invalid_request', [{ field: '/phone', message: 'must be a string' }]], JSON.stringify(phone))
  }
  for (const code of [
    ...notText, 123456, '12345', '1234567', '123456\n', '１２３４５６', '12 345', '123−456', '0x1234', '1e5000', '-12345',
    '+12345', ''
  ]) {
    const { status, body } = await service.request('POST', '/auth/verify-code',
      { body: { phone: '+996555123456', verification_code: code } })
    t.strictSame([status, body.errors.length, body.errors[0].field], [422, 1, '/verification_code'],
      JSON.stringify(code))
  }
  for (const language of [...notText, 'zz', 'RU', 'ru ', '']) {
    t.equal((await service.request('POST', '/auth/send-verification',
      { body: { phone: newPhone(), language } })).status, 422, JSON.stringify(language))
  }
  for (const isDefault of [1, 0, 'true', 'false', '', null, [], {}]) {
    const { status, body } = await service.request('POST', '/api/v1/profile/addresses',
      { token, body: { title: 'a', full_address: 'b', is_default: isDefault } })
    t.strictSame([status, body.errors], [422, [{ field: '/is_default', message: 'must be a boolean' }]],
      JSON.stringify(isDefault))
  }
  for (const fullName of [1, true, [], {}, ['a']]) {
    const { status, body } = await service.request('PATCH', '/api/v1/users/me',
      { token, body: { full_name: fullName } })
    t.strictSame([status, body.errors], [422, [{ field: '/full_name', message: 'must be a string' }]],
      JSON.stringify(fullName))
  }
  for (const body of ['null', '1', '"x"', '[]', '[{}]', 'true', '']) {
    const response = await service.request('POST', '/auth/verify-code', { body })
    t.strictSame([response.status, response.body.code], [422, 'invalid_request'], body)
  }
  t.strictSame(await row(service, token), before, 'the row did not change')
  t.equal(service.sms.length, 1)
})

t.test('422 names each field once, in our own words', async (t) => {
  const { service, token } = await signedIn(t)
  const create = async (body: object) =>
    (await service.request('POST', '/api/v1/profile/addresses', { token, body })).body.errors
  t.strictSame(await create({}),
    [{ field: '/title', message: 'is required' }, { field: '/full_address', message: 'is required' }])
  t.strictSame(await create({ title: '', full_address: ' ', street: 'a'.repeat(201), city: 7, is_default: 'x' }), [
    { field: '/title', message: 'must not be empty' },
    { field: '/full_address', message: 'must not be blank' },
    { field: '/street', message: 'must have at most 200 characters' },
    { field: '/city', message: 'must be a string' },
    { field: '/is_default', message: 'must be a boolean' }
  ])
  const { body } = await service.request('PATCH', '/api/v1/users/me',
    { token, body: { language: 'zz', profile_image_url: 'javascript:alert(1)' } })
  t.strictSame(body.errors, [
    {
      field: '/profile_image_url',
      message: 'must be an http or https URL of a host name with a dot, without user and password'
    },
    { field: '/language', message: 'must be one of ru, en, ky' }
  ])
  t.strictSame((await service.request('PATCH', '/api/v1/users/me', { token, body: '[]' })).body.errors,
    [{ field: '', message: 'must be an object' }])
})

t.test('a body that pollutes prototypes is refused at any depth, and nothing is polluted', async (t) => {
  const { service, token } = await signedIn(t)
  const poison = '{"isAdmin":true,"language":"ky"}'
  const bodies = [
    `{"__proto__":${poison}}`, `{"\\u005f_proto__":${poison}}`, `{"__pro\\u0074o__":${poison}}`,
    `{"a":{"b":[{"__proto__":${poison}}]}}`, '{"__proto__":null}', '{"__proto__":1}',
    `{"constructor":{"prototype":${poison}}}`, `{"\\u0063onstructor":{"prototype":${poison}}}`,
    `{"a":[{"constructor":{"prototype":${poison}}}]}`
  ]
  for (const body of bodies) {
    const { status, body: { code } } = await service.request('PATCH', '/api/v1/users/me', { token, body })
    t.strictSame([status, code], [400, 'bad_request'], body)
  }
  for (const body of ['{"constructor":"x","toString":"y","hasOwnProperty":1,"prototype":{"a":1}}']) {
    t.equal((await service.request('PATCH', '/api/v1/users/me', { token, body })).status, 200,
      'other members are ignored')
  }
  t.equal(({} as Record<string, unknown>).isAdmin, undefined)
  t.equal((await row(service, token)).language, 'ru')
  t.equal((await service.request('GET', '/api/v1/users/me?__proto__[x]=1&constructor.prototype.x=1&__proto__=1',
    { token })).status, 200)
  t.equal(({} as Record<string, unknown>).x, undefined)
})

t.test('of duplicate members the last one counts, for the schema and for the row', async (t) => {
  const { service, token } = await signedIn(t)
  for (const [body, status, name] of [
    ['{"full_name":"first","full_name":"last"}', 200, 'last'],
    ['{"full_name":1,"full_name":"last one"}', 200, 'last one'],
    ['{"full_name":"first","full_\\u006eame":"escaped"}', 200, 'escaped'],
    ['{"full_name":"first","full_name":1}', 422, 'escaped']
  ] as const) {
    t.equal((await service.request('PATCH', '/api/v1/users/me', { token, body })).status, status, body)
    t.equal((await row(service, token)).full_name, name, body)
  }
  const [one, two] = [newPhone(), newPhone()]
  await service.request('POST', '/auth/send-verification', { body: `{"phone":"${one}","phone":"${two}"}` })
  t.strictSame(service.sms.slice(1).map(({ to }) => to), [two])
  service.confidential.add(one).add(two)
})

t.test('unknown members are ignored and not stored', async (t) => {
  const { service, token } = await signedIn(t)
  const before = await row(service, token)
  const unknown = {
    id: 1,
    phone_number: '+996555999999',
    is_active: false,
    is_verified: false,
    market: 'us',
    last_login: '2020-01-01T00:00:00Z',
    created_at: null,
    country: 'X',
    user_id: 1
  }
  t.equal((await service.request('PATCH', '/api/v1/users/me',
    { token, body: { ...unknown, full_name: 'Aida' } })).status, 200)
  const { updated_at: _, ...after } = await row(service, token)
  t.match({ ...before, full_name: 'Aida' }, after)
  const { body } = await service.request('POST', '/api/v1/profile/addresses',
    { token, body: { ...unknown, title: 'a', full_address: 'b', country: null } })
  t.strictSame((await service.sql('SELECT user_id, country FROM user_addresses WHERE id = $1', [body.address.id])),
    [{ user_id: before.id, country: 'Kyrgyzstan' }])
  t.equal((await service.send(newPhone(), { verification_code: '000000', to: newPhone() })).status, 200)
})

t.test('NUL and lone surrogates are refused without SQL; other Unicode comes back unchanged', async (t) => {
  const { service, token } = await signedIn(t)
  const queries = countQueries(service)
  const before = queries()
  const refused = ['a\\u0000b', '\\u0000', '\\ud800', '\\udfff', 'a\\udc00\\ud800b', '\\ud83d']
  for (const text of refused) {
    for (const [method, path, body] of [
      ['PATCH', '/api/v1/users/me', `{"full_name":"${text}"}`],
      ['PATCH', '/api/v1/users/me', `{"profile_image_url":"https://x/${text}"}`],
      ...['title', 'full_address', 'street', 'building', 'apartment', 'city', 'state', 'postal_code', 'country']
        .map((field) =>
          ['POST', '/api/v1/profile/addresses', `{"title":"a","full_address":"b","${field}":"${text}"}`] as const),
      ['POST', '/auth/send-verification', `{"phone":"+996555123456${text}"}`],
      ['POST', '/auth/verify-code', `{"phone":"${text}","verification_code":"123456"}`],
      ['POST', '/auth/verify-code', `{"phone":"+996555123456","verification_code":"123456${text}"}`]
    ] as const) t.equal((await service.request(method, path, { token, body })).status, 422, `${path} ${body}`)
  }
  t.equal(queries() - before, queries.checks(), 'only the active check queried PostgreSQL')
  for (const name of [
    'Айгүл', '山田 太郎', '👩‍👩‍👧', 'e\u0301', 'a\u2028b', '\ufeffx', '\uffff', '"\\\'--;', '😀'.repeat(255)
  ]) {
    const { status, body } = await service.request('PATCH', '/api/v1/users/me', { token, body: { full_name: name } })
    t.strictSame([status, body.full_name], [200, name])
  }
  t.equal((await service.request('PATCH', '/api/v1/users/me', { token, body: { full_name: '😀'.repeat(256) } })).status,
    422)
})

t.test('a body that is not UTF-8 and JSON is refused', async (t) => {
  const service = await testService(t)
  const bad: Record<string, Buffer | string> = {
    'a byte that is not UTF-8': Buffer.from([0x7b, 0x22, 0xff, 0x22, 0x3a, 0x31, 0x7d]),
    'an overlong encoding': Buffer.from([0x22, 0xc0, 0xaf, 0x22]),
    'an encoded surrogate': Buffer.from([0x22, 0xed, 0xa0, 0x80, 0x22]),
    'UTF-16': Buffer.from('{}', 'utf16le'),
    'a gzip stream': Buffer.from('1f8b0800000000000003abae050043bfa6a302000000', 'hex'),
    'cut JSON': '{"phone":',
    'two texts': '{}{}',
    NaN: '{"phone":NaN}',
    'a comment': '{}//',
    'single quotes': "{'phone':'1'}",
    'a trailing comma': '{"phone":"1",}',
    'a raw control character': '{"phone":"\n"}',
    'form data': 'phone=%2B996555123456',
    XML: '<?xml version="1.0"?><!DOCTYPE x [<!ENTITY e SYSTEM "file:///etc/passwd">]><x>&e;</x>'
  }
  for (const [attack, body] of Object.entries(bad)) {
    isProblem(t, await raw(service, post(body)), 400, 'bad_request', attack)
  }
  const chunked = Buffer.concat([
    bytes({ method: 'POST', path: '/auth/verify-code', headers: [json, 'Transfer-Encoding: chunked'] }),
    Buffer.from('3\r\n"\xff"\r\n0\r\n\r\n', 'latin1')
  ])
  isProblem(t, await raw(service, chunked), 400, 'bad_request', 'a byte that is not UTF-8, in chunks')
  for (const deep of ['['.repeat(8192) + ']'.repeat(8192), '{"a":'.repeat(2700) + '1' + '}'.repeat(2700)]) {
    isProblem(t, await raw(service, post(deep)), 422, deep.startsWith('[') ? 'invalid_request' : 'invalid_request',
      'deep nesting')
  }
  isProblem(t, await raw(service, post('['.repeat(16_000))), 400, 'bad_request', 'unclosed deep nesting')
  for (const type of ['text/plain', 'text/html', 'application/x-www-form-urlencoded', 'multipart/form-data; boundary=x',
    'application/xml', 'application/jsonx', 'application/json, text/plain',
    'application/vnd.api+json', '*/*', 'json', ';', 'application/json/x', '\xff', '']) {
    isProblem(t, await raw(service, post('{}', [`Content-Type: ${type}`])), 415, 'unsupported_media_type',
      `content type ${type}`)
  }
  isProblem(t, await raw(service, post('{}', [])), 415, 'unsupported_media_type', 'without a content type')
  for (const type of [
    'application/json', 'APPLICATION/JSON', 'application/json;charset=utf-8', 'application/json ; charset="x"'
  ]) {
    isProblem(t, await raw(service, post('{}', [`Content-Type: ${type}`])), 422, 'invalid_request',
      `content type ${type}`)
  }
})

const routes: Record<string, string[]> = {
  '/auth/send-verification': ['POST'],
  '/auth/verify-code': ['POST'],
  '/auth/logout': ['POST'],
  '/auth/markets': ['GET', 'HEAD'],
  '/api/v1/auth/send-verification': ['POST'],
  '/api/v1/auth/verify-code': ['POST'],
  '/api/v1/auth/logout': ['POST'],
  '/api/v1/auth/markets': ['GET', 'HEAD'],
  '/api/v1/users/me': ['GET', 'HEAD', 'PATCH', 'DELETE'],
  '/api/v1/profile/addresses': ['GET', 'HEAD', 'POST'],
  '/api/v1/profile/addresses/1': ['GET', 'HEAD', 'PUT', 'PATCH', 'DELETE'],
  '/health/live': ['GET', 'HEAD'],
  '/health/ready': ['GET', 'HEAD']
}

t.test('a wrong method is 405 with Allow and an unknown path 404, with any body and headers', async (t) => {
  for (const env of [{}, { CORS_ORIGINS: 'https://app.example.com' }] as Array<Record<string, string>>) {
    const service = await testService(t, { env })
    const flaws: string[] = []
    const hostile = [
      json, 'Content-Length: 3', 'Expect: nothing', 'Upgrade: websocket', 'Connection: Upgrade', 'Accept: text/html',
      'Origin: https://evil.example.com'
    ]
    for (const method of methods) {
      for (const [path, methods] of Object.entries(routes)) {
        if (methods.includes(method)) continue
        for (const headers of [[], hostile]) {
          const response = await raw(service,
            Buffer.concat([bytes({ method, path, headers }), Buffer.from(headers.length ? '{"x' : '')]))
          const found = flaw(response, 405, 'method_not_allowed', method === 'HEAD') ??
            (response?.headers.allow?.split(', ').sort().join() === [...methods].sort().join()
              ? undefined
              : `allows ${response?.headers.allow}`)
          if (found) flaws.push(`${method} ${path} ${found}`)
        }
      }
      for (const path of [
        '/', '/nothing', '/favicon.ico', '/api/v1', '/auth', '/auth/verify-token2', '/AUTH/markets', '//auth/markets',
        '/auth/markets/', '/auth/../auth/markets', '/api/v1/users/me/x', '/index.html', '/openapi.yaml/..'
      ]) {
        const found = flaw(await raw(service, Buffer.concat([
          bytes({ method, path, headers: hostile }), Buffer.from('{"x')
        ])), 404, 'not_found', method === 'HEAD')
        if (found) flaws.push(`${method} ${path} ${found}`)
      }
    }
    t.strictSame(flaws, [])
    isProblem(t, await raw(service, bytes({ method: 'OPTIONS', path: '*' })), 404, 'not_found', 'OPTIONS *')
    for (const path of ['/%', '/%zz', '/auth/%ff', '/api/v1/profile/addresses/%e0%a4%a']) {
      isProblem(t, await raw(service, bytes({ path, headers: ['Accept: text/html'] })), 400, 'bad_request', path)
    }
  }
})

t.test('verify-token responds 200, 401 or 503 to everything that Node\'s parser accepts', async (t) => {
  const { service, token, bearer } = await signedIn(t, { CORS_ORIGINS: 'https://app.example.com' })
  const [header, payload] = token.split('.') as [string, string]
  const credentials: Record<number, string[][]> = {
    200: [[bearer]],
    401: [
      [], ['Authorization: Bearer'], ['Authorization: '], ['Authorization: Basic eDp5'], [bearer, bearer],
      [`${bearer}x`], ['Authorization: \xff'], [`Authorization: Bearer ${header}.${payload}.`]
    ]
  }
  const wrong: string[] = []
  let asked = 0
  const ask = async (parts: Parts, more = '') => {
    for (const [status, kinds] of Object.entries(credentials)) {
      const responses = await Promise.all(kinds.map((headers) =>
        raw(service,
          Buffer.concat([bytes({ ...parts, headers: [...headers, ...parts.headers ?? []] }), Buffer.from(more)]))))
      for (const [i, response] of responses.entries()) {
        asked++
        const isRight = response?.status === Number(status) && (status === '401'
          ? response.headers['www-authenticate']?.startsWith('Bearer realm="phone-auth"')
          : response.headers['x-user-market'] === 'kg')
        if (!isRight) {
          wrong.push(`${JSON.stringify(parts).slice(0, 200)} ${kinds[i]?.join() ?? ''}: ${JSON.stringify(response)}`)
        }
      }
    }
  }
  const bases = ['/auth/verify-token', '/api/v1/auth/verify-token']
  for (const method of methods) {
    for (const base of bases) for (const suffix of ['', '/a/b']) await ask({ method, path: base + suffix })
  }

  const suffixes = ['/', '//', '/.', '/..', '/../../x', '/%', '/%zz', '/%ff%fe', '/%00', '/%2e%2e%2f', '/%c0%af',
    '/%ed%a0%80', '?', '?%', '?a=%zz&__proto__=1', '#', '/#', '/?/x#?', '/a;b=c', '/:id', '/*', '/(.*)',
    '/"<>\\^`{|}', `/${'a'.repeat(9000)}`, `/${'a/'.repeat(4000)}`, `/${'%41'.repeat(3000)}`, `?${'a'.repeat(9000)}`,
    '/api/v1/users/me', '/auth/verify-token', '/http://x/', '/health/live']
  const spellings = [
    ...bases, 'http://gateway/auth/verify-token', 'https://user@gateway:8443/api/v1/auth/verify-token',
    'HTTP://[::1]/auth/verify-token', '/auth/verify%2Dtoken', '/%61uth/verify-token', '/api/%761/auth/verify-%74oken'
  ]
  for (const base of spellings) for (const suffix of suffixes) await ask({ path: base + suffix })

  const headers: string[][] = [
    ['Expect: 100-continue'], ['Expect: 200-ok'], ['Expect: '],
    ['Content-Type: '], ['Content-Type: \xff'], ['Content-Type: ;;;'], ['Content-Type: text/html; charset="'],
    ['Content-Length: 0'], [json], [json, 'Content-Length: 0'], ['Upgrade: websocket', 'Connection: Upgrade'],
    ['Upgrade: h2c', 'Connection: Upgrade, HTTP2-Settings', 'HTTP2-Settings: AAMAAABk'],
    ['Connection: close'], ['Connection: \xff'], ['Origin: null'],
    [
      'Origin: https://app.example.com', 'Access-Control-Request-Method: DELETE',
      'Access-Control-Request-Headers: authorization'
    ],
    ['Accept: text/html'], ['Accept-Encoding: *;q=0'], ['Accept-Version: 9.9.9'], ['If-None-Match: *'],
    ['If-Modified-Since: x'], ['Range: bytes=0-0'], ['Host: y'], ['Host: '],
    ['X-Request-Id: \xff'], ['X-Forwarded-For: \xff, , 999.1.1.1'], ['X-HTTP-Method-Override: DELETE'],
    ['Transfer-Encoding: chunked', 'Trailer: X'], ['Cookie: \xff'], ['Te: trailers'], ['Content-Encoding: br'],
    ['__proto__: x'], ['constructor: x'], ['Keep-Alive: timeout=0'], [`X: ${'a'.repeat(15_000)}`],
    Array.from({ length: 500 }, () => 'a:')
  ]
  for (const method of ['GET', 'POST', 'OPTIONS', 'DELETE', 'PROPFIND', 'QUERY']) {
    for (const more of headers) await ask({ method, headers: more })
  }

  for (const method of ['POST', 'PUT', 'GET', 'DELETE', 'QUERY']) {
    for (const body of ['', '{', 'x'.repeat(16_385), '\xff\0', '{"__proto__":1}']) {
      for (const type of [json, 'Content-Type: text/xml', 'X: y']) {
        await ask({ method, path: '/auth/verify-token/x', headers: [type], body })
      }
    }
    await ask({ method, headers: [json, 'Content-Length: 99999999'] }, '{"half of a body')
  }
  // 100 clients that disconnect before the response.
  for (let i = 0; i < 100; i++) {
    const socket = connect(Number(new URL(service.url).port), '127.0.0.1')
    await once(socket, 'connect')
    socket.write(bytes({ method: i % 2 ? 'CONNECT' : 'POST', headers: [bearer] }), () => { socket.resetAndDestroy() })
    await once(socket, 'close')
  }
  await ask({ version: 'HTTP/1.0' })
  await ask({ version: 'HTTP/2.0' })
  t.strictSame(wrong, [])
  t.ok(asked > 5000)
  t.equal((await raw(service, 'GET /auth/verify-token/x\r\n\r\n'))?.status, 401, 'HTTP/0.9')
  t.equal((await raw(service, `GET /auth/verify-token HTTP/1.1\r\n${bearer}\r\n\r\n`))?.status, 200, 'no Host')
})

const origin = 'https://app.example.com'
const preflight = (path: string, from = origin) => bytes({
  method: 'OPTIONS',
  path,
  headers: [
    `Origin: ${from}`, 'Access-Control-Request-Method: PATCH',
    'Access-Control-Request-Headers: authorization,content-type', 'X-Request-Id: from-a-browser'
  ]
})
const corsHeaders = (response: RawResponse | undefined) =>
  Object.keys(response?.headers ?? {}).filter((name) => name.startsWith('access-control-'))

t.test('without CORS_ORIGINS no response has CORS headers', async (t) => {
  const service = await testService(t)
  for (const path of Object.keys(routes)) {
    const response = await raw(service, preflight(path))
    isProblem(t, response, 405, 'method_not_allowed', path)
    t.strictSame(corsHeaders(response), [], path)
    t.strictSame(corsHeaders(await raw(service, bytes({ path, headers: [`Origin: ${origin}`] }))), [], path)
  }
})

t.test('CORS_ORIGINS allows only these origins, also for errors and preflights', async (t) => {
  const { service, bearer } = await signedIn(t,
    { CORS_ORIGINS: `https://admin.example.com,${origin}`, RATE_LIMIT_IP_MAX: '40' })
  for (const path of [...Object.keys(routes), '/nothing']) {
    const response = await raw(service, preflight(path))
    t.match(response, {
      status: 204,
      headers: {
        'access-control-allow-origin': origin,
        'access-control-allow-methods': 'GET, HEAD, POST, PUT, PATCH, DELETE',
        'access-control-allow-headers': 'authorization,content-type',
        vary: /Origin/,
        'x-request-id': 'from-a-browser'
      },
      text: ''
    }, path)
    t.notOk(response?.headers['access-control-allow-credentials'])
  }
  const exposed = [
    'WWW-Authenticate', 'Retry-After', 'RateLimit-Limit', 'RateLimit-Remaining', 'RateLimit-Reset', 'Location',
    'X-Request-Id'
  ]
  const from = [`Origin: ${origin}`]
  const responses = {
    200: await raw(service, bytes({ path: '/api/v1/users/me', headers: [...from, bearer] })),
    401: await raw(service, bytes({ path: '/api/v1/users/me', headers: from })),
    404: await raw(service, bytes({ path: '/nothing', headers: from })),
    405: await raw(service, bytes({ method: 'OPTIONS', path: '/auth/markets', headers: from })),
    413: await raw(service, post('x'.repeat(20_000), [json, ...from])),
    415: await raw(service, post('{}', ['Content-Type: text/plain', ...from])),
    422: await raw(service, post('{}', [json, ...from]))
  }
  for (const [status, response] of Object.entries(responses)) {
    t.equal(response?.status, Number(status))
    t.equal(response?.headers['access-control-allow-origin'], origin, status)
    t.match(response?.headers.vary, /Origin/, status)
    t.strictSame(response?.headers['access-control-expose-headers']?.split(', '), exposed, status)
  }
  let limited: RawResponse | undefined
  for (let i = 0; i < 45 && limited?.status !== 429; i++) limited = await raw(service, post('{}', [json, ...from]))
  t.equal(limited?.status, 429)
  for (const name of ['retry-after', 'ratelimit-limit', 'ratelimit-remaining', 'ratelimit-reset']) {
    t.ok(limited?.headers[name], name)
    t.match(limited?.headers['access-control-expose-headers'], new RegExp(name, 'i'))
  }

  for (const evil of [
    'https://evil.example.com', 'http://app.example.com', 'https://app.example.com:8443',
    'https://app.example.com.evil.com', 'https://xapp.example.com', 'HTTPS://APP.EXAMPLE.COM', 'null', 'file://', '*',
    `${origin}/`, ''
  ]) {
    const refused = await raw(service, preflight('/api/v1/users/me', evil))
    isProblem(t, refused, 405, 'method_not_allowed', evil)
    t.strictSame(corsHeaders(refused), [], evil)
    t.match(refused?.headers.vary, /Origin/, 'a cache must not send this response to another origin')
    t.strictSame(corsHeaders(await raw(service,
      bytes({ path: '/api/v1/users/me', headers: [`Origin: ${evil}`, bearer] }))), [], evil)
  }
  t.strictSame(corsHeaders(await raw(service, bytes({ path: '/auth/markets' }))), [], 'no origin')
})

t.test('no response is HTML, whatever the Accept header', async (t) => {
  const { service, bearer } = await signedIn(t)
  const accept = 'Accept: text/html,application/xhtml+xml;q=0.9'
  for (const [path, methods] of Object.entries(routes)) {
    for (const method of [...methods, 'OPTIONS', 'TRACE']) {
      for (const headers of [[accept], [accept, bearer], [accept, json]]) {
        if (headers.includes(bearer) && /logout|users\/me/.test(path) && method !== 'GET') continue
        const response = await raw(service, bytes({ method, path, headers }))
        t.match(response?.headers['content-type'], /^application\/(?:problem\+)?json/, `${method} ${path}`)
      }
    }
  }
})
