import { execFile } from 'node:child_process'
import { once } from 'node:events'
import { readFileSync } from 'node:fs'
import { createRequire } from 'node:module'
import { connect } from 'node:net'
import { join } from 'node:path'
import { promisify } from 'node:util'
import t, { type Test } from 'tap'
import { SmsOptedOut } from '../../src/messages/index.js'
import { documentedPatterns, formats } from '../../src/http/schemas.js'
import { mint } from '../helpers/forge.js'
import { head } from '../helpers/raw.js'
import { temporaryFolder } from '../helpers/servers.js'
import { startProcess } from '../helpers/server-process.js'
import { testService, type Json, type RequestOptions, type TestResponse } from '../helpers/service.js'

const run = promisify(execFile)
const pages = [
  '/openapi.json', '/docs', '/docs/', '/docs/json', '/docs/static/swagger-ui.css', '/docs/static/index.html'
]
/** The loaded files of these packages, which are CommonJS. */
const loaded = () =>
  Object.keys(createRequire(import.meta.url).cache)
    .filter((file) => /@fastify\/(swagger|swagger-ui|helmet)\//.test(file))

t.test('without DOCS there are no document and no pages, and their packages are not loaded', async (t) => {
  const { request } = await testService(t)
  for (const path of pages) t.equal((await request('GET', path)).body.code, 'not_found', path)
  t.strictSame(loaded(), [])
  await testService(t, { env: { DOCS: 'true' } })
  t.ok(loaded().length > 3)
})

t.test('openapi.json is the document of the current routes (npm run openapi writes it)', async (t) => {
  const { path: cwd, remove } = await temporaryFolder()
  t.teardown(remove)
  t.equal((await startProcess(t, 'dev/write-openapi', { cwd }).closed).code, 0)
  const written = readFileSync(join(cwd, 'openapi.json'), 'utf8')
  t.ok(written === readFileSync('openapi.json', 'utf8'), 'the same to the byte')
  const { request } = await testService(t, { env: { DOCS: 'true' } })
  t.strictSame((await request('GET', '/openapi.json')).body, JSON.parse(written))
})

t.test('the document breaks no rule of redocly.yaml', async (t) => {
  const env = { ...process.env, REDOCLY_TELEMETRY: 'off', REDOCLY_SUPPRESS_UPDATE_NOTICE: 'true', NO_COLOR: '1' }
  const { stdout, stderr } = await run(
    process.execPath,
    ['node_modules/@redocly/cli/bin/cli.js', 'lint', 'openapi.json', '--max-problems=5', '--format=json'], { env }
  )
  t.match(JSON.parse(stdout), { totals: { errors: 0, warnings: 0, ignored: 0 } }, stderr)
})

/**
 * Calls `check` with every object of a document below a part, except for examples. Follows references if `isFollowing`.
 */
function walk (
  document: Json, part: Json, path: string, isFollowing: boolean, check: (node: Json, path: string) => void
) {
  if (typeof part !== 'object' || part === null) return
  const node = isFollowing ? resolve(document, part) : part
  check(node, path)
  for (const [key, child] of Object.entries(node)) {
    if (!/^examples?$/.test(key)) walk(document, child, `${path}/${key}`, isFollowing, check)
  }
}

t.test('the document has nothing that client generators misread', async (t) => {
  const document = JSON.parse(readFileSync('openapi.json', 'utf8'))
  const faults: string[] = []

  walk(document, document, '', false, (node, path) => {
    for (const key of ['const', 'anyOf', 'oneOf', 'allOf']) if (key in node) faults.push(`${path}: ${key}`)
    if (node.type === 'integer' && !node.format) faults.push(`${path}: no format`)
    if (node.type !== 'object') return
    if (!node.title && !/^\/components\/schemas\/\w+$/.test(path)) faults.push(`${path}: no name`)
    for (const [name, property] of Object.entries(node.properties)) {
      if (!resolve(document, property).description) faults.push(`${path}: ${name} is not described`)
    }
  })

  t.strictSame(faults, [])
  t.ok(document.components.schemas.User.properties.full_name.type.includes('null'))
  t.equal(document.paths['/api/v1/profile/addresses/{id}'].get.parameters[0].schema.type, 'integer')
})

t.test('a response has open enumerations only, and a request closed ones', async (t) => {
  const document = JSON.parse(readFileSync('openapi.json', 'utf8'))
  const closed = new Set<string>()
  const open = new Set<string>()
  const responses = operationsOf(document).map(({ op }) => op.responses)

  walk(document, [responses, document.webhooks], '', true, (node, path) => {
    if (node.enum) closed.add(path)
    if (node['x-extensible-enum']) open.add(path.split('/').at(-1) as string)
  })

  t.strictSame([...closed], [])
  t.strictSame(
    [...open].sort(), ['code', 'database', 'default_market', 'language', 'market', 'redis', 'status', 'token_type']
  )
  t.strictSame(document.components.schemas.Language.enum, ['ru', 'en', 'ky'])
})

t.test('a documented pattern matches all that its format accepts, and neither NUL nor another scheme', async (t) => {
  const values = [
    'Айгүл Асанова', ' a ', '\u200d', '𝒳', '\ud800', '\u202e', 'a\nb', 'a\r\nb', '\t', '', ' ', 'https://example.com/a',
    'HTTP://EXAMPLE.COM'
  ]
  const refused = ['\0', 'a\0', 'javascript:a\0']

  for (const [name, pattern] of Object.entries(documentedPatterns)) {
    for (const isRequired of [true, false]) {
      const documented = new RegExp(pattern(isRequired), 'u')
      const accepted = values.filter(
        (value) => formats[name as keyof typeof formats](value) && (!isRequired || /\S/.test(value))
      )
      t.strictSame(accepted.filter((value) => !documented.test(value)), [], name)
      t.strictSame(refused.filter((value) => documented.test(value)), [], name)
    }
  }
})

t.test('every operation is described and has a response for problems that it does not list', async (t) => {
  const document = JSON.parse(readFileSync('openapi.json', 'utf8'))

  for (const { id, op } of operationsOf(document)) {
    t.ok(op.description, id)
    t.ok(op.responses.default.content['application/problem+json'], id)
  }
  t.equal(document.info.version, JSON.parse(readFileSync('package.json', 'utf8')).version)
})

t.test('/docs, and nothing else, is HTML; it loads only from its own origin and cannot be framed', async (t) => {
  const { url, request } = await testService(t, { env: { DOCS: 'true' } })
  for (const path of ['/docs', '/docs/']) {
    const { status, headers } = await fetch(url + path)
    t.equal(status, 200)
    t.match(headers.get('content-type'), /^text\/html/)
    t.equal(headers.get('content-security-policy'), [
      "default-src 'none'", "script-src 'self'",
      "style-src 'self' 'sha256-RL3ie0nH+Lzz2YNqQN83mnU0J1ot4QL7b99vMdIX99w='", "img-src 'self' data:",
      "connect-src 'self'", "base-uri 'none'", "form-action 'none'", "frame-ancestors 'none'"
    ].join(';'))
    t.equal(headers.get('x-content-type-options'), 'nosniff')
    t.equal(headers.get('x-frame-options'), 'DENY')
    t.equal(headers.get('strict-transport-security'), null)
  }
  for (const path of [
    '/docs/static/missing.css', '/docs/missing', '/docs/static/../../package.json', '/docs/static/%2e%2e/package.json',
    '/'
  ]) {
    t.match(await request('GET', path), { status: 404, body: { code: 'not_found' } }, path)
  }
  t.match(await request('POST', '/docs'), { status: 405, body: { code: 'method_not_allowed' } })
  for (const path of ['/health/live', '/openapi.json', '/api/v1/auth/markets']) {
    const { headers } = await fetch(url + path, { headers: { accept: 'text/html' } })
    t.match(headers.get('content-type'), /^application\/json/, path)
    t.equal(headers.get('content-security-policy'), null, path)
  }
})

/*
 * The examples. Each request is sent exactly as documented, and each problem is provoked. Each response must be the
 * documented one, except for times, tokens and request ids.
 */

const secret = 'examples-'.repeat(4)
/** The nonce from which the code of the examples is derived. */
const nonce = '0000000000021648'

interface Operation { id: string, method: string, path: string, op: Json }

/** The part of a document that a reference names. */
const resolve = (document: Json, part: Json): Json =>
  part.$ref ? part.$ref.slice(2).split('/').reduce((parent: Json, name: string) => parent[name], document) : part

/** Every operation, with its references to responses resolved. */
const operationsOf = (document: Json): Operation[] => Object.entries(document.paths).flatMap(([path, item]) =>
  Object.entries(item as Json).map(([method, op]: [string, Json]) => {
    const responses = Object.fromEntries(
      Object.entries(op.responses).map(([status, response]) => [status, resolve(document, response)])
    )
    return { id: op.operationId, method: method.toUpperCase(), path, op: { ...op, responses } }
  }))

/** Codes with tests of their own: a slow request, a large header and a bug. */
const elsewhere = ['request_timeout', 'headers_too_large', 'internal_error']

/** The codes that an operation documents, except for those. */
const codesOf = ({ responses }: Json): string[] => Object.values(responses as Json[])
  .flatMap(({ content }) => Object.keys(content?.['application/problem+json']?.examples ?? {}))
  .filter((code) => !elsewhere.includes(code))

/** A value with placeholders for its times, tokens and request ids. */
const form = (value: Json): Json => {
  if (Array.isArray(value)) return value.map(form)
  if (typeof value === 'object' && value !== null) {
    return Object.fromEntries(Object.entries(value).map(([key, member]) =>
      [
        key,
        key === 'request_id' ? typeof member : key === 'retry_after' && 'code' in value ? typeof member : form(member)
      ]))
  }
  if (typeof value !== 'string') return value
  return value.replace(/^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z$/, 'a time')
    .replace(/^eyJ[\w-]+\.eyJ[\w-]+\.[\w-]{43}$/, 'a token')
}

const transport = ['connection', 'content-length', 'content-type', 'date', 'keep-alive', 'transfer-encoding', 'vary']

/** Asserts that a response is the documented one; `shown` is the code of a problem, or undefined for success. */
function isDocumented (t: Test, { id, op }: Operation, { status, headers, body }: TestResponse, shown?: string) {
  const response = op.responses[status]
  t.ok(response, `${id} lists ${status}`)
  const [type, media] = Object.entries(response.content ?? {})[0] as [string, Json] ?? []
  t.equal(headers.get('content-type')?.split(';')[0], type, `${id} ${status}: its type`)
  const example = shown ? media.examples[shown] : media
  const value = example?.value ?? example?.example
  t.strictSame(form(body || undefined), form(value), `${id} ${status} ${shown ?? ''}`)
  const documented = Object.keys(response.headers).map((name) => name.toLowerCase()).sort()
  const seen = [...headers.keys()].filter((name) => !transport.includes(name)).sort()
  // A limit is unknown without its store. A malformed Authorization is refused before the limit of its user is checked.
  const isLimitUnknown = shown === 'unavailable' || (shown === 'bad_request' && op.security)
  t.strictSame(
    seen, documented.filter((name) => !isLimitUnknown || !name.startsWith('ratelimit')), `${id} ${status}: its headers`
  )
}

/** Starts a service. Returns it with its document and a function that sends a request as documented. */
async function documentedService (t: Test, options: Parameters<typeof testService>[1] = {}) {
  const service = await testService(t, {
    ...options,
    env: { DOCS: 'true', CODE_SECRET: secret, ...options.env },
    overrides: { newNonce: () => nonce, ...options.overrides }
  })
  const document = (await service.request('GET', '/openapi.json')).body
  const operations = operationsOf(document)
  const send = ({ method, path, op }: Operation, { token, body, headers }: RequestOptions = {}) => {
    const filled = path.replace(/\{(\w+)\}/g, (_, name) => op.parameters.find((one: Json) => one.name === name).example)
    return service.request(method, filled, {
      token: op.security ? token : undefined,
      body: body ?? op.requestBody?.content['application/json'].example,
      ...(headers && { headers })
    })
  }
  const find = (id: string) => operations.find((one) => one.id === id) as Operation
  // The examples use these ids.
  await service.sql('ALTER SEQUENCE users_id_seq RESTART 19')
  await service.sql('ALTER SEQUENCE user_addresses_id_seq RESTART 7')
  return { ...service, document, operations, send, find }
}

t.test('every example of a request gets the documented response', async (t) => {
  let later = 0
  const service = await documentedService(t, { overrides: { clock: () => Date.now() + later } })
  const asked = new Set<string>()
  let token: string | undefined
  const ask = async (id: string) => {
    const response = await service.send(service.find(id), { token })
    isDocumented(t, service.find(id), response)
    asked.add(id)
    return response
  }
  const login = async () => {
    await ask('sendVerification')
    const { body } = await service.send(service.find('verifyCode'))
    token = body.access_token
  }
  for (const id of ['listMarkets', 'getLive', 'getReady', 'sendVerification']) await ask(id)
  token = (await ask('verifyCode')).body.access_token
  for (const id of [
    'verifyToken', 'getMe', 'updateMe', 'createAddress', 'listAddresses', 'getAddress', 'updateAddress', 'putAddress',
    'deleteAddress', 'logout'
  ]) await ask(id)
  later = 120_000
  await login()
  await ask('deleteMe')
  t.strictSame([...asked].sort(), service.operations.map(({ id }) => id).sort(), 'every operation')
})

t.test('every problem that a route documents has the documented response', async (t) => {
  const met = new Set<string>()
  type DocumentedService = Awaited<ReturnType<typeof documentedService>>
  const check = async (service: DocumentedService, id: string, code: string, options: RequestOptions) => {
    const response = await service.send(service.find(id), options)
    t.equal(response.body.code, code, `${id} ${code}`)
    isDocumented(t, service.find(id), response, code)
    met.add(`${id} ${code}`)
  }

  const service = await documentedService(t)
  const { token, user } = await service.login('+13128059851')
  const json = { 'content-type': 'application/json' }
  for (const { id, path, op } of service.operations) {
    const has = (code: string) => codesOf(op).includes(code)
    const body = op.requestBody?.content['application/json'].example
    if (has('bad_request')) {
      await check(
        service, id, 'bad_request', op.security ? { headers: { authorization: 'Bearer a b' } } : { body: '{' }
      )
    }
    if (has('token_missing')) await check(service, id, 'token_missing', {})
    if (has('invalid_token')) await check(service, id, 'invalid_token', { token: 'not.a.token' })
    if (has('not_found')) await check(service, id, 'not_found', { token })
    if (has('payload_too_large')) await check(service, id, 'payload_too_large', { token, body: ' '.repeat(17_000) })
    if (has('unsupported_media_type')) {
      await check(service, id, 'unsupported_media_type', {
        token, body: 'x', headers: { 'content-type': 'text/plain' }
      })
    }
    if (has('invalid_request')) {
      const [{ field }] = op.responses[422].content['application/problem+json'].examples.invalid_request.value.errors
      await check(service, id, 'invalid_request', { token, body: { ...body, [field.slice(1)]: 1 } })
    }
    if (has('unsupported_phone')) {
      await check(service, id, 'unsupported_phone', { body: { ...body, phone: '+1 800 555 1234' } })
    }
    t.notOk(path.includes('undefined'))
  }

  await service.send(service.find('sendVerification'))
  await check(service, 'sendVerification', 'resend_too_soon', {})
  await check(service, 'verifyCode', 'invalid_code', {
    body: { phone: '+996 555 123 456', verification_code: '000000' }
  })
  await service.sql(`INSERT INTO user_addresses
      (user_id, title, full_address, country, is_default, created_at, updated_at)
    SELECT $1, 'a', 'b', 'c', n = 1, now(), now() FROM generate_series(1, 50) n`, [user.id])
  await check(service, 'createAddress', 'address_limit', { token, headers: json })
  await service.sql('CREATE TABLE orders (user_id integer REFERENCES users (id))')
  await service.sql('INSERT INTO orders VALUES ($1)', [user.id])
  await check(service, 'deleteMe', 'account_in_use', { token })

  let later = 0
  const strict = await documentedService(t, {
    env: { CODE_SENDS_PER_HOUR: '1', CODE_RESEND_SECONDS: '1' }, overrides: { clock: () => Date.now() + later }
  })
  await strict.send(strict.find('sendVerification'))
  later = 2000
  await check(strict, 'sendVerification', 'too_many_sends', {})

  for (const id of ['sendVerification', 'verifyCode']) {
    const limited = await documentedService(t, { env: { RATE_LIMIT_IP_MAX: '1' } })
    await limited.send(limited.find(id))
    await check(limited, id, 'rate_limited', {})
  }
  const busy = await documentedService(t, { env: { RATE_LIMIT_USER_MAX: '1' } })
  const { token: another } = await busy.login('+13128059851')
  await busy.send(busy.find('updateMe'), { token: another })
  const isRead = ({ method }: Operation) => method === 'GET'
  const ofUser = busy.operations.filter(({ op }) => op.security && op.responses[429])
  for (const { id } of ofUser.filter((one) => !isRead(one))) await check(busy, id, 'rate_limited', { token: another })

  const full = await documentedService(t)
  const { token: slow } = await full.login('+13128059851')
  const refused = Array.from({ length: 21 }, () => {
    const socket = connect(Number(new URL(full.url).port), '127.0.0.1')
    t.teardown(() => socket.destroy())
    socket.write(head(
      'POST /api/v1/profile/addresses', `Authorization: Bearer ${slow}`, 'Content-Type: application/json',
      'Content-Length: 2'
    ))
    return once(socket, 'data')
  })
  await Promise.race(refused)
  for (const { id } of ofUser.filter(isRead)) await check(full, id, 'rate_limited', { token: slow })

  const mute = await documentedService(t, { overrides: { sms: async () => { throw new Error('no provider') } } })
  await check(mute, 'sendVerification', 'sms_failed', {})
  const stopped = await documentedService(t, { overrides: { sms: async () => { throw new SmsOptedOut('STOP') } } })
  await check(stopped, 'sendVerification', 'opted_out', {})

  const alone = await documentedService(t, {
    env: { DATABASE_URL: 'postgres://127.0.0.1:9/none', REDIS_URL: 'redis://127.0.0.1:9' }
  })
  const exp = Math.floor(Date.now() / 1000) + 60
  const live = mint({ user_id: 1, market: 'kg', exp }, alone.env.JWT_SECRET as string)
  for (const { id, op } of alone.operations) {
    if (op.responses[503]?.content['application/problem+json']) await check(alone, id, 'unavailable', { token: live })
  }
  const unready = await alone.send(alone.find('getReady'))
  t.strictSame(unready.body, { status: 'unavailable', checks: { database: 'down', redis: 'down' } })

  const documented = service.operations.flatMap(({ id, op }) => codesOf(op).map((code) => `${id} ${code}`))
  t.strictSame([...met].sort(), documented.sort(), 'every documented problem')
})
