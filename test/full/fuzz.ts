import http from 'node:http'
import fc, { type Arbitrary } from 'fast-check'
import t from 'tap'
import type { TSchema } from 'typebox'
import { Compile } from 'typebox/compile'
import * as auth from '../../src/auth/schemas.js'
import { verifyTokenSchema } from '../../src/auth/tokens/forward-auth.js'
import { ProblemSchema } from '../../src/http/problems.js'
import * as profile from '../../src/profile/schemas.js'
import { deleteUserSchema } from '../../src/account/schemas.js'
import * as users from '../../src/users/schemas.js'
import { mint } from '../helpers/forge.js'
import { newPhone, testService, type Service } from '../helpers/service.js'

/*
 * More than 20,000 requests, made from the schemas of the routes. FUZZ_SEED=… makes other requests than the default
 * ones. A request that takes more than 1 s is repeated alone, because the machine may be busy. It is a failure if it is
 * slow again, or if there is no response in 5 s.
 */
const seed = Number(process.env.FUZZ_SEED ?? 20_260_101)
const batches = 201
const batchSize = 100
const slowMs = 1000
const hangMs = 5000

interface Schema { body?: TSchema, response?: Record<number, TSchema> }
interface Route { method: string, path: string, schema?: Schema }

const routes: Route[] = [
  ...['/auth', '/api/v1/auth'].flatMap((prefix): Route[] => [
    { method: 'POST', path: `${prefix}/send-verification`, schema: auth.sendVerificationSchema },
    { method: 'POST', path: `${prefix}/verify-code`, schema: auth.verifyCodeSchema },
    { method: 'POST', path: `${prefix}/logout`, schema: auth.logoutSchema },
    { method: 'GET', path: `${prefix}/markets`, schema: auth.marketsSchema },
    { method: '*', path: `${prefix}/verify-token`, schema: verifyTokenSchema }
  ]),
  { method: 'GET', path: '/api/v1/users/me', schema: users.getUserSchema },
  { method: 'PATCH', path: '/api/v1/users/me', schema: users.patchUserSchema },
  { method: 'DELETE', path: '/api/v1/users/me', schema: deleteUserSchema },
  { method: 'GET', path: '/api/v1/profile/addresses', schema: profile.listAddressesSchema },
  { method: 'POST', path: '/api/v1/profile/addresses', schema: profile.createAddressSchema },
  { method: 'GET', path: '/api/v1/profile/addresses/:id', schema: profile.getAddressSchema },
  { method: 'PUT', path: '/api/v1/profile/addresses/:id', schema: profile.putAddressSchema },
  { method: 'PATCH', path: '/api/v1/profile/addresses/:id', schema: profile.updateAddressSchema },
  { method: 'DELETE', path: '/api/v1/profile/addresses/:id', schema: profile.deleteAddressSchema },
  { method: 'GET', path: '/health/live' },
  { method: 'GET', path: '/health/ready' }
]

const codes = [
  'bad_request', 'invalid_code', 'token_missing', 'invalid_token', 'not_found', 'method_not_allowed', 'address_limit',
  'payload_too_large', 'unsupported_media_type', 'headers_too_large', 'invalid_request', 'unsupported_phone',
  'opted_out', 'resend_too_soon', 'too_many_sends'
]

const phones = Array.from({ length: 40 }, (_, i) => newPhone(i % 2 ? 'kg' : 'us'))
const spellings = phones.flatMap(
  (phone) => [phone, phone.slice(1), `${phone.slice(0, 4)} (${phone.slice(4, 7)}) ${phone.slice(7)}`]
)
const oddTexts = [
  '', ' ', '\0', 'a\0b', '\ud800', '\udfffx', '\u202e', '\ufeff', '\x1b[31m', '\r\nX: y', "' OR 1=1--",
  '"; DROP TABLE users; --', '$1', '%s%n', '{{7*7}}', '<script>', '../../etc/passwd', 'null', 'NaN', '-0', '1e400',
  'true', '__proto__', 'constructor', '１２３４５６', '٠١٢٣٤٥', 'İ', 'ß', '😀'.repeat(60), 'a'.repeat(256), 'a'.repeat(600),
  'é'.repeat(5000), '+1', '112', '+12125551234', '+14165550123', '+18005551234', '+996312123456', '+996555123456;ext=1',
  '+٩٩٦٥٥٥١٢٣٤٥٦', 'http://x', 'javascript:alert(1)', 'http://[::1', 'https://x/\0'
]

const oddText = fc.oneof(
  fc.constantFrom(...oddTexts), fc.string({ unit: 'binary', maxLength: 40 }),
  fc.string({ unit: 'grapheme', maxLength: 300 })
)
const wrongValue: Arbitrary<unknown> = fc.oneof(
  oddText, fc.jsonValue({ maxDepth: 3 }), fc.double(), fc.maxSafeInteger(),
  fc.constantFrom(null, true, false, 0, 1, -1, 996555123456, [], {}, [[]], { length: 1 })
)

/** Values that a schema accepts, and values at its limits. */
function fitting (name: string, schema: TSchema): Arbitrary<unknown> {
  const { type, enum: choices, format, maxLength = 100 } = schema as {
    type?: string | string[], enum?: unknown[], format?: string, maxLength?: number
  }
  if (name === 'phone') return fc.constantFrom(...spellings)
  if (choices) return fc.constantFrom(...choices)
  if (Array.isArray(type)) return fc.oneof(...type.map((one) => fitting(name, { ...schema, type: one })))
  if (type === 'boolean') return fc.boolean()
  if (type === 'null') return fc.constant(null)
  if (format === 'one-time-code') return fc.stringMatching(/^[0-9]{6}$/)
  if (format === 'picture-url') return fc.webUrl({ withQueryParameters: true })
  const edges = [
    '', ' ', '\0', 'a\0b', '\ud800', 'x\udfff', '😀'.repeat(maxLength), '😀'.repeat(maxLength + 1), 'a'.repeat(maxLength),
    'a'.repeat(maxLength + 1)
  ]
  return fc.oneof(
    {
      weight: 6,
      arbitrary: fc.string({ unit: 'grapheme', minLength: 1, maxLength: Math.min(maxLength, 60) })
        .map((text) => text.isWellFormed() && text.trim() ? text : 'x')
    },
    { weight: 1, arbitrary: fc.constantFrom(...edges) })
}

/** The bytes of a body: valid, nearly valid, or invalid. */
function bodyOf (schema: TSchema | undefined): Arbitrary<Buffer> {
  const { properties = {}, required = [] } = (schema ?? {}) as {
    properties?: Record<string, TSchema>, required?: string[]
  }
  const fields = (mostly: number) => Object.fromEntries(Object.entries(properties).map(([name, property]) =>
    [name, fc.oneof({ weight: mostly, arbitrary: fitting(name, property) }, { weight: 1, arbitrary: wrongValue })]))
  const good = fc.record(fields(30), { requiredKeys: required })
  const extra = fc.dictionary(
    fc.oneof(oddText, fc.constantFrom('id', 'user_id', 'is_active', 'phone_number', 'hasOwnProperty')), wrongValue,
    { maxKeys: 3 }
  )
  const text = fc.oneof(
    { weight: 10, arbitrary: good.map((body) => JSON.stringify(body)) },
    { weight: 4, arbitrary: fc.record(fields(1), { requiredKeys: [] }).map((body) => JSON.stringify(body)) },
    { weight: 2, arbitrary: fc.tuple(good, extra).map(([body, more]) => JSON.stringify({ ...more, ...body })) },
    {
      weight: 1,
      arbitrary: fc.tuple(good, extra)
        .map(([body, more]) => `${JSON.stringify(body).slice(0, -1)},${JSON.stringify(more).slice(1)}`)
    },
    {
      weight: 1,
      arbitrary: fc.tuple(good, good)
        .map(([one, two]) => `${JSON.stringify(one).slice(0, -1)},${JSON.stringify(two).slice(1)}`)
    },
    {
      weight: 1,
      arbitrary: fc.tuple(good, fc.nat())
        .map(([body, cut]) => JSON.stringify(body).slice(0, cut % JSON.stringify(body).length))
    },
    { weight: 1, arbitrary: wrongValue.map((value) => JSON.stringify(value)) },
    { weight: 1, arbitrary: oddText },
    {
      weight: 1,
      arbitrary: fc.constantFrom(
        '', '{', '{}', '[]', 'null', '{"__proto__":{}}', '{"constructor":{"prototype":{}}}', '[1e999]',
        '['.repeat(16_000), `{"phone":"${'9'.repeat(16_000)}"}`, ' '.repeat(16_384), ' '.repeat(16_385),
        'x'.repeat(50_000)
      )
    })
  return fc.oneof(
    { weight: 20, arbitrary: text.map((body) => Buffer.from(body)) },
    { weight: 1, arbitrary: text.map((body) => Buffer.from(body, 'utf16le')) },
    { weight: 1, arbitrary: text.map((body) => Buffer.from(body, 'latin1')) },
    { weight: 1, arbitrary: fc.uint8Array({ maxLength: 200 }).map((bytes) => Buffer.from(bytes)) })
}

const types = [
  'application/json; charset=utf-8', 'APPLICATION/JSON', 'application/json;charset=utf-16', 'text/plain', 'text/html',
  'application/x-www-form-urlencoded', 'multipart/form-data; boundary=x', 'application/problem+json',
  'application/json, application/json', 'json', ';', '', '\xff', 'a/b; c="d'
]
const contentType = fc.oneof(
  { weight: 12, arbitrary: fc.constant('application/json') }, { weight: 3, arbitrary: fc.constantFrom(...types) },
  { weight: 1, arbitrary: fc.constant(undefined) }
)

/** Text that a header may contain on the wire. */
const headerText = fc.oneof(
  fc.string({ maxLength: 60 }),
  fc.string({ unit: fc.integer({ min: 0x80, max: 0xff }).map((point) => String.fromCharCode(point)), maxLength: 20 })
).map((text) => text.trim())
const oddHeader: Arbitrary<[string, string]> = fc.oneof(
  fc.tuple(fc.constantFrom(
    'x-request-id', 'x-forwarded-for', 'accept', 'accept-language', 'accept-encoding', 'accept-version', 'origin',
    'cookie', 'user-agent', 'referer', 'if-none-match', 'range', 'te', 'access-control-request-method',
    'access-control-request-headers', 'x-http-method-override', 'forwarded', 'traceparent', 'expect',
    'content-encoding', 'x-user-id', '__proto__', 'constructor'
  ), headerText),
  fc.constantFrom<Array<[string, string]>>(
    ['accept-language', 'ky;q=0.9,*;q=0.1'], ['accept-language', `${'a,'.repeat(2000)}`],
    ['x-forwarded-for', `${'1.1.1.1,'.repeat(500)}2001:db8::1`], ['origin', 'null'], ['expect', '100-continue'],
    ['x-request-id', 'a'.repeat(65)], ['x-request-id', '0'], ['cookie', 'a=b;'.repeat(2000)], ['connection', 'close'],
    ['upgrade', 'websocket'], ['x', 'a'.repeat(17_000)]
  ))

type Credentials = 'live' | 'none' | 'forged' | 'expired' | 'malformed'
const credentials: Arbitrary<Credentials> = fc.oneof(
  { weight: 8, arbitrary: fc.constant('live' as const) },
  {
    weight: 2, arbitrary: fc.constantFrom('none' as const, 'forged' as const, 'expired' as const, 'malformed' as const)
  })

const id = fc.oneof(
  { weight: 5, arbitrary: fc.integer({ min: 1, max: 400 }).map(String) },
  {
    weight: 1,
    arbitrary: fc.constantFrom(
      '0', '-1', '2147483647', '2147483648', '9'.repeat(20), '9'.repeat(101), '1.5', '01', '%00', '%ff', '1%0a',
      '__proto__', '%', '1e3'
    )
  },
  { weight: 1, arbitrary: oddText.map((text) => encodeURIComponent(text.toWellFormed())) })

/** A change of a path: an escaped character, an addition or a removal; null for none. */
const twist = fc.oneof(
  { weight: 12, arbitrary: fc.constant(null) },
  {
    weight: 1,
    arbitrary: fc.tuple(
      fc.constantFrom('suffix', 'escape', 'cut', 'double', 'case', 'absolute'), fc.nat(),
      oddText.map((text) => encodeURIComponent(text.toWellFormed()))
    )
  })
const query = fc.oneof(
  { weight: 8, arbitrary: fc.constant('') },
  { weight: 1, arbitrary: oddText.map((text) => `?${encodeURIComponent(text.toWellFormed())}=1&__proto__[x]=1&%zz`) }
)

function twisted (path: string, how: [string, number, string]) {
  const [kind, n, text] = how
  const at = n % path.length
  switch (kind) {
    case 'suffix': return `${path}/${text}`
    case 'escape': return `${path.slice(0, at)}%${path.charCodeAt(at).toString(16)}${path.slice(at + 1)}`
    case 'cut': return path.slice(0, at) || '/'
    case 'double': return path.replace('/', '//')
    case 'case': return path.toUpperCase()
    default: return `http://gateway${path}`
  }
}

interface Request {
  route: Route
  method: string
  path: string
  isTwisted: boolean
  type: string | undefined
  headers: Array<[string, string]>
  credentials: Credentials
  person: number
  body: Buffer | undefined
  isChunked: boolean
}

const methods = http.METHODS.filter((method) => method !== 'CONNECT')
const requestTo = (route: Route): Arbitrary<Request> => fc.record({
  method: fc.oneof(
    { weight: 9, arbitrary: route.method === '*' ? fc.constantFrom(...methods) : fc.constant(route.method) },
    { weight: 1, arbitrary: fc.constantFrom(...methods) }
  ),
  id,
  twist,
  query,
  type: contentType,
  headers: fc.oneof(
    { weight: 3, arbitrary: fc.constant<Array<[string, string]>>([]) },
    { weight: 1, arbitrary: fc.array(oddHeader, { maxLength: 4 }) }
  ),
  credentials,
  person: fc.nat(),
  body: fc.oneof(
    { weight: route.schema?.body ? 20 : 1, arbitrary: bodyOf(route.schema?.body) },
    { weight: 2, arbitrary: fc.constant(undefined) }
  ),
  isChunked: fc.oneof({ weight: 9, arbitrary: fc.constant(false) }, { weight: 1, arbitrary: fc.constant(true) })
}).map(({ id, twist, query, ...rest }) => {
  const path = route.path.replace(':id', id)
  return { ...rest, route, path: (twist ? twisted(path, twist) : path) + query, isTwisted: twist !== null }
})

const anyRequest = fc.oneof(
  ...routes.map((route) => ({ weight: route.schema?.body ? 3 : 1, arbitrary: requestTo(route) }))
)

interface FuzzResponse { status: number, headers: http.IncomingHttpHeaders, text: string, ms: number }

/** Sends a request over a keep-alive connection. Repeats the request if the server has just closed the connection. */
async function ask (
  agent: http.Agent, url: string, options: Request, token: string | undefined, tries = 3
): Promise<FuzzResponse> {
  const { method, path, type, headers, body, isChunked } = options
  const { hostname, port } = new URL(url)
  const begin = performance.now()
  try {
    return await new Promise<FuzzResponse>((resolve, reject) => {
      const request = http.request({
        agent,
        hostname,
        port,
        method,
        path,
        headers: {
          ...Object.fromEntries(headers),
          ...(type !== undefined && { 'content-type': type }),
          ...(token !== undefined && { authorization: token }),
          ...(body && (isChunked ? { 'transfer-encoding': 'chunked' } : { 'content-length': body.length }))
        }
      }, (response) => {
        let text = ''
        response.setEncoding('utf8').on('data', (chunk: string) => { text += chunk }).on('error', reject)
          .on('end', () => {
            const { statusCode, headers } = response
            resolve({ status: statusCode as number, headers, text, ms: performance.now() - begin })
          })
      })
      request.setTimeout(hangMs, () => { request.destroy(new Error(`no response within ${hangMs} ms`)) })
      request.on('error', reject).end(body)
    })
  } catch (error) {
    const isClosed = ['ECONNRESET', 'EPIPE'].includes((error as NodeJS.ErrnoException).code ?? '')
    if (tries > 1 && isClosed) return ask(agent, url, options, token, tries - 1)
    throw error
  }
}

const problemDetails = Compile(ProblemSchema)
const validators = new Map<TSchema, { Check (value: unknown): boolean }>()
const fits = (schema: TSchema, value: unknown) => {
  const validator = validators.get(schema) ?? Compile(schema)
  validators.set(schema, validator)
  return validator.Check(value)
}

/** What is wrong with a response; undefined if it keeps the contract. */
function flaw ({ route, method, isTwisted }: Request, { status, headers, text }: FuzzResponse): string | undefined {
  if (status >= 500 || status < 200 || (status >= 300 && status < 400)) return `responded ${status}`
  if (/html/i.test(headers['content-type'] ?? '')) return `is ${headers['content-type']}`
  if (status === 431) return undefined
  if (!headers['x-request-id']) return 'has no X-Request-Id'
  const isRoute = !isTwisted && (route.method === '*' || method === route.method)
  const schema = isRoute ? route.schema?.response : undefined
  if (schema && !schema[status]) return `responded ${status}, which its schema does not list`
  if (status < 400) {
    if (!schema || method === 'HEAD' || status === 204) return undefined
    return fits(schema[status] as TSchema, JSON.parse(text)) ? undefined : 'does not fit its schema'
  }
  if (!/^application\/problem\+json/.test(headers['content-type'] ?? '')) return `is ${headers['content-type']}`
  if (status === 401 && !headers['www-authenticate']) return 'has no WWW-Authenticate'
  if (status === 405 && !headers.allow) return 'has no Allow'
  if (status === 429 && !headers['retry-after']) return 'has no Retry-After'
  if (method === 'HEAD') return undefined
  const body = JSON.parse(text) as { status: number, code: string, request_id: string, errors?: unknown[] }
  if (!problemDetails.Check(body) || body.status !== status || !codes.includes(body.code)) {
    return 'is not a problem of the contract'
  }
  if (body.request_id !== headers['x-request-id']) return 'has two request ids'
  if (body.code === 'invalid_request' && !body.errors?.length) return 'names no field'
  const { content } = (schema?.[status] ?? {}) as { content?: Record<string, { examples: object }> }
  if (!content) return undefined
  const { examples } = content['application/problem+json'] as { examples: object }
  return body.code in examples ? undefined : `is ${body.code}, which its schema does not list`
}

/** Signed-in users. A user who has signed out or was deleted is replaced. */
async function crowd (service: Service, size: number) {
  const signUp = async () => {
    const { token, user } = await service.login(newPhone())
    await service.sql(`INSERT INTO user_addresses
        (user_id, title, full_address, country, is_default, created_at, updated_at)
      SELECT $1, 'a', 'b', 'c', n = 1, now(), now() FROM generate_series(1, 3) n`, [user.id])
    return token
  }
  const tokens = await Promise.all(Array.from({ length: size }, signUp))
  const ended = new Set<number>()
  return {
    token: (person: number) => tokens[person % size] as string,
    end: (person: number) => { ended.add(person % size) },
    async revive () {
      await Promise.all([...ended].map(async (index) => { tokens[index] = await signUp() }))
      ended.clear()
    }
  }
}

t.test('this suite names every route of the service', async (t) => {
  const service = await testService(t)
  // printRoutes shows a parameter below its path.
  const known = (service.app.printRoutes({ commonPrefix: false }).match(/\/\S*(?= \()/g) ?? [])
    .map((path) => path.replace(/^\/:id/, '/api/v1/profile/addresses/:id'))
  t.strictSame([...new Set(known)].sort(), [...new Set(routes.map(({ path }) => path))].sort())
})

const count = batches * batchSize
t.test(`${count} requests of every kind (seed ${seed}): no 5xx, no hang, every error is a problem`, async (t) => {
  const service = await testService(t, { env: { DATABASE_POOL_MAX: '20', LOG_LEVEL: 'info' } })
  for (const phone of phones) service.confidential.add(phone)
  const people = await crowd(service, 40)
  const forged = mint({ user_id: 1, market: 'kg', exp: Math.floor(Date.now() / 1000) + 60 }, 'x'.repeat(44))
  const expired = mint(
    { user_id: 1, market: 'kg', exp: Math.floor(Date.now() / 1000) - 60 }, service.env.JWT_SECRET as string
  )
  const tokens: Record<Credentials, (person: number) => string | undefined> = {
    live: (person) => `Bearer ${people.token(person)}`,
    none: () => undefined,
    forged: () => `Bearer ${forged}`,
    expired: () => `Bearer ${expired}`,
    malformed: (person) => [
      'Bearer', '', 'Basic eDp5', 'Bearer a b', 'Bearer \xff', `Bearer ${people.token(person)},`
    ][person % 6]
  }
  const agent = new http.Agent({ keepAlive: true, maxSockets: 24 })
  t.teardown(() => { agent.destroy() })

  const flaws: string[] = []
  const slow: Request[] = []
  let asked = 0
  let slowest = 0
  const statuses: Record<string, number> = {}
  async function check (request: Request) {
    const token = tokens[request.credentials](request.person)
    const response = await ask(agent, service.url, request, token)
    asked++
    slowest = Math.max(slowest, response.ms)
    if (response.ms > slowMs) slow.push(request)
    const { status } = response
    statuses[status] = (statuses[status] ?? 0) + 1
    const endsSession = request.path.includes('logout') || request.method === 'DELETE'
    if (request.credentials === 'live' && status < 300 && endsSession) people.end(request.person)
    const found = flaw(request, response)
    if (found) report(found, request, response)
  }
  function report (found: string, { route: _, body, ...shown }: Request, { status, text }: FuzzResponse) {
    const request = JSON.stringify({ ...shown, body: body?.toString('latin1') }).slice(0, 1500)
    flaws.push(`${found}: ${request} → ${status} ${text.slice(0, 500)}`)
  }
  /** Repeats slow requests one by one, because a busy machine is slow, too. */
  async function checkSlow () {
    for (const request of slow.splice(0)) {
      const response = await ask(agent, service.url, request, tokens[request.credentials](request.person))
      if (response.ms > slowMs) report(`took ${Math.round(response.ms)} ms`, request, response)
    }
  }

  const batch = fc.array(anyRequest, { minLength: batchSize, maxLength: batchSize })
  await fc.assert(fc.asyncProperty(batch, async (requests) => {
    await Promise.all(requests.map(check))
    await checkSlow()
    await people.revive()
    return flaws.length === 0
  }), {
    seed,
    numRuns: batches,
    endOnFailure: true,
    reporter: ({ failed, errorInstance }) => { if (failed) t.fail(`seed ${seed}`, { flaws, errorInstance }) }
  })

  t.ok(asked >= 20_000, `${asked} requests`)
  t.comment(`slowest ${Math.round(slowest)} ms, ${JSON.stringify(statuses)}`)
  for (const status of [200, 201, 204, 400, 401, 404, 405, 413, 415, 422, 429, 431]) {
    t.ok(statuses[status], `${status} occurs`)
  }
  t.ok((statuses[200] ?? 0) > asked / 5, 'enough requests succeed')
  t.strictSame(
    service.log.map((line) => JSON.parse(line)).filter(({ level }) => level >= 50), [], 'no error was logged'
  )
  t.equal((await service.request('GET', '/health/ready')).body.status, 'ok')
})
