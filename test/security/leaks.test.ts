import { randomBytes } from 'node:crypto'
import { once } from 'node:events'
import { createServer } from 'node:http'
import { connect, type AddressInfo } from 'node:net'
import { sql } from 'drizzle-orm'
import { Redis } from 'ioredis'
import pg from 'pg'
import { pino, type Logger } from 'pino'
import t, { type Test } from 'tap'
import { smsSender, SmsRefused, type SmsMessage } from '../../src/messages/index.js'
import { loadConfig } from '../../src/config/index.js'
import { migrate } from '../../src/db/migrate.js'
import { loggerOptions } from '../../src/monitoring/logger.js'
import { mint } from '../helpers/forge.js'
import { startRedis, startTestPostgres } from '../helpers/servers.js'
import { checkLog, newPhone, productionEnv, testService, type Json, type Service } from '../helpers/service.js'

const spelled = (digits: string) => [...digits].join('[ ().-]*')

/** The first secret in a text: a number in any spelling, also without its prefix, or a code that no digit adjoins. */
function findLeak (text: string, confidential: Iterable<string>): string | undefined {
  for (const secret of confidential) {
    const pattern = /^\+\d+$/.test(secret)
      ? new RegExp(spelled(secret.replace(/^\+(996|1)/, '')))
      : /^\d{6}$/.test(secret) ? new RegExp(`(?<!\\d)${spelled(secret)}(?!\\d)`) : undefined
    if (pattern ? pattern.test(text) : text.includes(secret)) return secret
  }
  return undefined
}

/** A log line without its random ids. */
function withoutIds (line: string) {
  const { time, pid, request_id: id, message_id: messageId, ...rest } = JSON.parse(line) as Json
  const shown = [id, messageId].filter((one) => !/^[0-9a-f]{8}-[0-9a-f-]{27}$/.test(one))
  return JSON.stringify({ ...rest, shown })
}

const phone = '+13128059851'
const code = '483920'
const key = randomBytes(32).toString('base64')
const token = mint({ user_id: 19, market: 'us', iat: 1_700_000_000, exp: 1_700_001_800 }, key)
const planted = [phone, code, key, token, token.split('.')[2] as string]
const text = `${phone} (312) 805-9851 ${code} ${key} ${token}`

/** A logger of the service and its lines. */
function logger () {
  const lines: string[] = []
  return { lines, log: pino(loggerOptions('trace'), { write: (line: string) => { lines.push(line) } }) }
}

const caught = async (promise: PromiseLike<unknown>): Promise<Error> =>
  promise.then(() => { throw new Error('nothing failed') }, (error: Error) => error)

/** Errors that the libraries throw, with secrets in all their fields. */
async function errorsOfLibraries (t: Test): Promise<Record<string, Error>> {
  const service = await testService(t)
  const { db } = service.app
  await service.sql('INSERT INTO users (phone_number, full_name) VALUES ($1, $2)', [phone, code])
  const receiver = createServer((request, response) => {
    request.resume().on('end', () => { response.writeHead(400).end(text) })
  }).listen(0, '127.0.0.1')
  await once(receiver, 'listening')
  t.teardown(() => { receiver.close() })
  const sms = (url: string) => {
    const config = loadConfig({ ...service.env, SMS_WEBHOOK_URL: url, SMS_TIMEOUT_MS: '200' })
    return smsSender(config.provider)({ id: code, to: phone, text, market: 'us', language: 'en' })
  }
  const cyclic = new Error(text)
  cyclic.cause = cyclic
  return {
    'a unique violation of pg': await caught(db.pool.query('INSERT INTO users (phone_number) VALUES ($1)', [phone])),
    'a cast in pg': await caught(db.pool.query('SELECT $1::text::int', [text])),
    'a syntax error in pg': await caught(db.pool.query(`SELECT '${text}' FROM`)),
    'a wrong password in pg': await caught(new pg.Client({
      connectionString: service.database.url.replace(/:\w+@/, `:${randomBytes(8).toString('hex')}${code}@`)
    }).connect()),
    'a unique violation of Drizzle': await caught(
      db.execute(sql`INSERT INTO users (phone_number, full_name) VALUES (${phone}, ${token})`)),
    'a syntax error of Drizzle': await caught(db.execute(sql`SELEC ${phone}, ${code}, ${token}, ${key}`)),
    'a wrong type in ioredis': await caught(
      service.redis.set(phone, code).then(() => service.redis.hset(phone, code, token))),
    'an unknown command in ioredis': await caught(service.redis.call(phone, code, token, key)),
    'a script in ioredis': await caught(service.redis.eval('return redis.error_reply(ARGV[1])', 0, text)),
    'a refusal of the provider': await caught(
      sms(`http://127.0.0.1:${(receiver.address() as AddressInfo).port}/?to=${phone}`)),
    'an unavailable provider': await caught(sms(`http://127.0.0.1:9/${token}?code=${code}`)),
    'a bad JSON text': await caught(Promise.resolve().then(() => JSON.parse(`{"phone":"${phone}","code":${code}x`))),
    'a bad URL': await caught(Promise.resolve().then(() => new URL(`postgres://user:${key}@[${phone}`))),
    'a chain of causes': new Error(text, { cause: new Error(text, { cause: new TypeError(text) }) }),
    'a cause that refers to itself': cyclic,
    'a cause that is not an error': new Error(text, { cause: { to: phone, code } }),
    'several errors in one': new AggregateError([new Error(text)], text),
    'its own name, code and stack': Object.assign(new Error(text),
      { name: text, code: text, stack: text, to: phone, config: { headers: { authorization: token } } }),
    'a message that looks like a stack': new Error(`a\n    at ${phone} (file:1:1)\n    at ${token}:1:1`)
  }
}

t.test('a log line does not contain the SQL and the parameters of a failed query', async (t) => {
  const service = await testService(t)
  const error = await caught(
    service.app.db.execute(sql`INSERT INTO users (phone_number, full_name) VALUES (NULL, ${'Aida Bekova'})`))
  t.match(error.message, 'Aida Bekova')
  t.match((error.cause as pg.DatabaseError).detail, 'Aida Bekova')
  const { log, lines } = logger()
  log.error(error)
  log.error({ err: error })
  log.error({ error }, 'failed')
  log.error({ nested: { error } })
  t.equal(lines.length, 4)
  for (const line of lines) t.notMatch(line, /Aida|INSERT|VALUES/)
})

t.test('no error of a library brings a number, code, token or secret into the log', async (t) => {
  for (const [kind, error] of Object.entries(await errorsOfLibraries(t))) {
    const { log, lines } = logger()
    log.error(error)
    log.error(error, text)
    log.error({ err: error })
    log.error({ error, reason: error, deep: { list: [error] } }, text)
    log.error(error.message)
    log.error('failed: %s %o', error.message, error)
    t.equal(lines.length, 6)
    for (const line of lines) t.equal(findLeak(withoutIds(line), planted), undefined, `${kind}: ${line.slice(0, 400)}`)
  }
  const { log, lines } = logger()
  log.error(new Error('boom'))
  t.match(JSON.parse(lines[0] as string).err, { type: 'Error', message: 'boom', stack: /^ {4}at .*leaks\.test/ },
    'other text stays')
})

const plants: Record<string, (log: Logger) => void> = {
  'as the message': (log) => log.info(text),
  'as an argument of the message': (log) => log.info('to %s, %j', text, { text, list: [text] }),
  'as a message with fields': (log) => log.info({ event: 'x' }, text),
  'as the event': (log) => log.info({ event: text }),
  'in fields': (log) => log.info({
    phone,
    to: text,
    verification_code: code,
    access_token: token,
    authorization: `Bearer ${token}`,
    secret: key,
    body: { phone, list: [{ code }] }
  }),
  'as the name of a field': (log) => log.info({ body: { [phone]: 1, [token]: 2 } }),
  'deeper than the limit': (log) => log.info({ a: { a: { a: { a: { a: { a: { a: text } } } } } } }),
  'in an instance of a class': (log) =>
    log.info({ map: new Map([[phone, code]]), url: new URL(`http://x/${phone}`), bytes: Buffer.from(text) }),
  'as the id of a request': (log) => {
    log.info({ request_id: phone.slice(1) })
    log.info({ request_id: code })
    log.info({ request_id: `app-${phone.slice(1)}-1` })
  }
}

t.test('no log line contains a planted secret', async (t) => {
  for (const [where, plant] of Object.entries(plants)) {
    const { log, lines } = logger()
    plant(log)
    t.ok(lines.length > 0)
    for (const line of lines) t.equal(findLeak(withoutIds(line), planted), undefined, `${where}: ${line}`)
  }
  const { log, lines } = logger()
  log.info({
    event: 'login',
    user_id: 2147483647,
    phone: '+1•••••••51',
    client: '2001:db8::1',
    request_id: '8e03978e-40d5-43e8-bc93-123456789012',
    route: '/api/v1/auth/send-verification'
  })
  t.match(JSON.parse(lines[0] as string), {
    user_id: 2147483647,
    phone: '+1•••••••51',
    client: '2001:db8::1',
    request_id: '8e03978e-40d5-43e8-bc93-123456789012',
    route: '/api/v1/auth/send-verification'
  }, 'the fields of a line stay readable')
})

t.test('the searches of this file and of every test find a planted leak', async (t) => {
  for (const secret of [
    phone, '13128059851', '3128059851', '(312) 805-9851', '+1 312 805 9851', code, `code${code}`, token, key
  ]) {
    t.type(findLeak(withoutIds(JSON.stringify({ msg: `x ${secret} y` })), planted), 'string', secret)
  }
  for (const secret of [phone, code, token, key]) {
    t.throws(() => checkLog(JSON.stringify({ msg: secret }), planted), secret)
  }
  t.equal(findLeak(withoutIds(JSON.stringify({
    time: 1483920, pid: 483920, request_id: '8e03978e-40d5-43e8-bc93-483920834920'
  })), planted), undefined)
})

/** A provider for the webhook. It keeps its requests and responds as the test says. */
async function provider (t: Test) {
  const sms: SmsMessage[] = []
  const state = { status: 200 }
  const server = createServer((request, response) => {
    const chunks: Buffer[] = []
    request.on('data', (chunk: Buffer) => { chunks.push(chunk) }).on('end', () => {
      const message = JSON.parse(Buffer.concat(chunks).toString()) as SmsMessage
      sms.push(message)
      // 0 means no response.
      if (state.status > 0) response.writeHead(state.status).end(JSON.stringify(message))
    })
  }).listen(0, '127.0.0.1')
  await once(server, 'listening')
  t.teardown(() => { server.closeAllConnections(); server.close() })
  return { sms, state, url: `http://127.0.0.1:${(server.address() as AddressInfo).port}/` }
}

/** A separate PostgreSQL and Redis, each with a random password. */
async function guardedStores (t: Test) {
  const databasePassword = randomBytes(12).toString('hex')
  const redisPassword = randomBytes(12).toString('hex')
  const postgres = await startTestPostgres()
  t.teardown(() => postgres.remove())
  const admin = new pg.Pool({ connectionString: postgres.url, max: 1 })
  admin.on('error', () => {})
  await admin.query(`CREATE ROLE service LOGIN SUPERUSER PASSWORD '${databasePassword}'`)
  await migrate(postgres.url)

  const server = await startRedis()
  t.teardown(() => server.stop())
  const open = new Redis(server.url)
  await open.config('SET', 'requirepass', redisPassword)
  open.disconnect()
  const redis = new Redis(server.port, { password: redisPassword, retryStrategy: null })
  redis.on('error', () => {})
  t.teardown(async () => { redis.disconnect(); await admin.end() })
  return {
    databasePassword,
    redisPassword,
    postgres,
    server,
    database: {
      url: postgres.url.replace(/postgres:\w+@/, `service:${databasePassword}@`),
      sql: async (text: string, values: unknown[] = []): Promise<Json[]> =>
        (await admin.query(text, values)).rows as Json[]
    },
    redis: { url: server.url.replace('//', `//:${redisPassword}@`), redis }
  }
}

t.test('neither trace logs nor error bodies of a walk over all routes and outages contain a secret', async (t) => {
  const { sms, state, url } = await provider(t)
  const stores = await guardedStores(t)
  const { database, redis } = stores
  const confidential = new Set([stores.databasePassword, stores.redisPassword])
  const errorBodies: string[] = []
  const logs: string[][] = []

  async function start (more: Record<string, string> = {}): Promise<Service> {
    const env = {
      ...productionEnv(database.url, redis.url),
      SMS_WEBHOOK_URL: url,
      SMS_TIMEOUT_MS: '300',
      JWT_SECRET_PREVIOUS: randomBytes(32).toString('base64'),
      ...more
    }
    const service = await testService(t, {
      env, database, redis, overrides: { sms: smsSender(loadConfig(env).provider) }
    })
    for (const name of ['JWT_SECRET', 'JWT_SECRET_PREVIOUS', 'CODE_SECRET', 'SMS_WEBHOOK_SECRET']) {
      confidential.add(service.env[name] as string)
    }
    logs.push(service.log)
    const request: Service['request'] = async (...args) => {
      const response = await service.request(...args)
      if (response.status >= 400) errorBodies.push(JSON.stringify({ ...response.body, request_id: '' }))
      return response
    }
    return { ...service, request }
  }
  const codeOf = (phone: string) => sms.findLast(({ to }) => to === phone)?.text.match(/\d{6}/)?.[0] as string
  const send = (service: Service, phone: string, more: object = {}) =>
    service.request('POST', '/auth/send-verification', { body: { phone, ...more } })
  const verify = (service: Service, phone: string, code: string) =>
    service.request('POST', '/auth/verify-code', { body: { phone, verification_code: code } })
  async function login (service: Service, phone: string) {
    t.equal((await send(service, phone)).status, 200)
    const { status, body } = await verify(service, phone, codeOf(phone))
    t.equal(status, 200)
    confidential.add(body.access_token)
    return body.access_token as string
  }

  const service = await start()
  const [first, second, third, fourth] = [newPhone('us'), newPhone(), newPhone(), newPhone()] as const
  const token = await login(service, first)
  const other = await login(service, second)

  // Places where apps and attackers put secrets.
  const code = '508213'
  confidential.add(code)
  for (const path of [
    `/auth/verify-token?access_token=${token}`, `/auth/verify-token/${token}/${first}`, `/api/v1/users/${first}`,
    `/api/v1/profile/addresses/${first.slice(1)}`, `/api/v1/profile/addresses/${token}`,
    `/api/v1/users/me?phone=${encodeURIComponent(first)}&code=${code}`, `/${token}`, `/%zz${first}`
  ]) {
    await service.request('GET', path, { token })
  }
  await service.request('GET', '/api/v1/users/me', {
    token,
    headers: {
      'x-request-id': first.slice(1),
      'x-forwarded-for': `${first}, ${token}`,
      'user-agent': `${first} ${token}`,
      referer: `http://x/?code=${code}`,
      cookie: `token=${token}; phone=${first}`,
      'accept-language': first,
      origin: `http://${first.slice(1)}`
    }
  })
  await service.request('GET', '/api/v1/users/me',
    { headers: { 'x-request-id': code, authorization: `Bearer ${token} ${first}` } })
  await service.request('GET', '/api/v1/users/me', { token: token.slice(0, -2) })
  await service.request('PATCH', '/api/v1/users/me',
    { token, body: { full_name: `${first} ${code} ${token.slice(0, 100)}` } })
  await service.request('PATCH', '/api/v1/users/me', { token, body: { full_name: { first, code } } })
  await service.request('POST', '/api/v1/profile/addresses', { token, body: { title: first, full_address: code } })
  await service.request('POST', '/api/v1/profile/addresses',
    { token, body: { title: first.repeat(20), full_address: [code], postal_code: `${first}${first}` } })
  await service.request('POST', '/auth/verify-code', { body: `{"phone":"${first}","verification_code":"${code}"` })
  await service.request('POST', '/auth/verify-code', { body: `{"__proto__":"${first}","verification_code":"${code}"}` })
  await service.request('POST', '/auth/verify-code', { body: { phone: `${first}x`, verification_code: code } })
  await service.request('POST', '/auth/verify-code',
    { body: { phone: Number(first), verification_code: Number(code) } })
  await service.request('POST', '/auth/verify-code', { body: { phone: first, verification_code: `${code}1` } })
  await service.request('POST', '/auth/verify-code', { body: first, headers: { 'content-type': `text/${code}` } })
  await service.request('POST', `/auth/logout/${first}`, { body: { code } })
  await brokenOff(service, `{"phone":"${first}","verification_code":"${code}`)

  // Limits, wrong codes and the pumping guard.
  t.strictSame([(await send(service, first)).status, (await send(service, first)).status], [200, 429])
  t.equal((await send(service, third)).status, 200)
  confidential.add(codeOf(first)).add(codeOf(third)).add(first).add(second).add(third).add(fourth)
  for (let i = 0; i < 6; i++) {
    t.equal((await verify(service, third, codeOf(third) === '508213' ? '508214' : '508213')).status, 400)
  }
  const guarded = await start({ SMS_GUARD_BLOCK_SENDS: '1', RATE_LIMIT_IP_MAX: '2' })
  const block = '+99677712'
  t.strictSame([
    (await send(guarded, `${block}0001`)).status, (await send(guarded, `${block}0002`)).body.code,
    (await send(guarded, `${block}0003`)).body.code
  ], [200, 'too_many_sends', 'rate_limited'])
  for (const n of [1, 2, 3]) confidential.add(`${block}000${n}`)

  // The provider refuses, closes the connection, and does not respond.
  for (const status of [400, 500, 0]) {
    state.status = status
    const to = newPhone()
    confidential.add(to)
    t.equal((await send(service, to)).body.code, 'sms_failed')
    confidential.add(codeOf(to))
  }
  state.status = 200
  const unreachable =
    await start({ SMS_WEBHOOK_URL: `http://127.0.0.1:9/?key=${confidential.values().next().value as string}` })
  t.equal((await send(unreachable, fourth)).body.code, 'sms_failed')

  // Wrong passwords and unavailable stores.
  const strangers = await Promise.all([
    start({ DATABASE_URL: database.url.replace(stores.databasePassword, `${stores.databasePassword}0`) }),
    start({ REDIS_URL: redis.url.replace(stores.redisPassword, `${stores.redisPassword}0`) })
  ])
  for (const stranger of strangers) t.equal((await send(stranger, fourth)).status, 503)
  t.equal((await send(service, fourth)).status, 200)
  confidential.add(codeOf(fourth))
  await service.sql('ALTER TABLE users RENAME TO people')
  t.equal((await verify(service, fourth, codeOf(fourth))).status, 503)
  await service.sql('ALTER TABLE people RENAME TO users')
  await service.sql('ALTER TABLE users ADD CONSTRAINT broken CHECK (is_active IS NULL) NOT VALID')
  t.equal((await verify(service, fourth, codeOf(fourth))).status, 500)
  t.equal((await service.request('POST', '/auth/logout', { token })).status, 500)
  await service.sql('ALTER TABLE users DROP CONSTRAINT broken')
  await stores.postgres.stop()
  t.equal((await verify(service, fourth, codeOf(fourth))).status, 503)
  t.equal((await send(service, newPhone())).status, 503)
  t.equal((await service.request('GET', '/api/v1/users/me', { token })).status, 503)
  await stores.postgres.start()
  await service.request('GET', '/health/ready')
  t.equal((await service.request('POST', '/auth/logout', { token: other })).status, 200)
  await stores.server.stop()
  t.equal((await send(service, fourth)).status, 503)
  t.equal((await verify(service, fourth, codeOf(fourth))).status, 503)
  t.equal((await service.request('POST', '/auth/logout', { token })).status, 503)
  t.equal((await service.request('DELETE', '/api/v1/users/me', { token })).status, 503)
  await service.request('GET', '/health/ready')
  const back = await startRedis({ port: stores.server.port })
  t.teardown(() => back.stop())
  const again = await start({ REDIS_URL: stores.server.url, JWT_SECRET: service.env.JWT_SECRET as string })
  t.equal((await again.request('DELETE', '/api/v1/users/me', { token })).status, 204)

  const lines = logs.flat()
  const events = new Set(lines.map((line) => JSON.parse(line).event))
  for (const event of [
    'code_sent', 'sms_failed', 'login', 'wrong_code', 'limit_hit', 'guard_tripped', 'logout', 'account_deleted',
    'error', 'answer', 'dependency_down'
  ]) {
    t.ok(events.has(event), `the walk logged ${event}`)
  }
  t.ok(confidential.size >= 25)
  for (const line of lines) {
    const leak = findLeak(withoutIds(line), confidential)
    if (leak) t.fail(`a line contains ${leak}: ${line}`)
  }
  const masked = lines.map((line) => JSON.parse(line).phone).filter(Boolean)
  t.ok(masked.length > 10)
  t.strictSame(masked.filter((phone) => !/^\+(996|1)•{7}\d\d$/.test(phone)), [], 'all numbers are masked')

  t.ok(errorBodies.length >= 30)
  for (const body of errorBodies) {
    t.equal(findLeak(body, confidential), undefined, body)
    t.notMatch(body, /select|insert|update "|postgres|redis|ioredis|drizzle|127\.0\.0\.1|localhost|node_modules/, body)
    t.notMatch(body, /\bat \/|E[A-Z]{4,}|must NOT|anyOf|Unexpected|WRONG|NOAUTH/, body)
  }
})

/** Sends half of a body, then resets the connection. */
async function brokenOff (service: Service, half: string) {
  const socket = connect(Number(new URL(service.url).port), '127.0.0.1')
  await once(socket, 'connect')
  socket.write('POST /auth/verify-code HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n' +
    `Content-Length: 1000\r\n\r\n${half}`)
  const seen = service.log.length
  socket.resetAndDestroy()
  for (let i = 0; i < 500 && service.log.length === seen; i++) await service.request('GET', '/health/live')
}

t.test('an incomplete request is not logged as an error of the service', async (t) => {
  const service = await testService(t)
  await brokenOff(service, '{"phone":')
  t.strictSame(service.log.map((line) => JSON.parse(line)).filter(({ level }) => level >= 40), [])
})

t.test('injection in a header, a path or a body does not reach the log, whose lines stay valid JSON', async (t) => {
  const service = await testService(t)
  const { token } = await service.login(newPhone())
  const marker = 'iNjEcTeD'
  const injections = [`","level":60,"event":"${marker}`, `"}{"level":60,"msg":"${marker}"}`, `\\u001b[31m${marker}`,
    `%0a{"level":60,"msg":"${marker}"}`,
    `%1b[2J${marker}`, `\\n${marker}`, `<script>${marker}</script>`, `a\t${marker}`, `\xa0${marker}\xff`,
    `\${jndi:ldap://127.0.0.1/${marker}}`, `%s%o%j${marker}`]
  const start = service.log.length
  for (const injection of injections) {
    const headers = Object.fromEntries(['x-request-id', 'x-forwarded-for', 'user-agent', 'referer', 'origin',
      'accept-language', 'cookie', 'x-real-ip', 'forwarded',
      'access-control-request-method', 'traceparent', 'x-user-id', 'via'].map((name) => [name, injection]))
    for (const request of [
      { path: '/api/v1/users/me', options: { token, headers } },
      { path: '/api/v1/users/me', options: { headers: { ...headers, authorization: injection } } },
      { path: `/${encodeURI(injection)}`, options: { headers } },
      { path: `/api/v1/profile/addresses/${encodeURIComponent(injection)}`, options: { token, headers } },
      {
        path: '/auth/verify-code',
        method: 'POST',
        options: { headers, body: { phone: `+996555${injection}`, verification_code: '000000' } }
      },
      { path: '/auth/verify-code', method: 'POST', options: { headers, body: `\n${injection}\x1b[31m` } },
      {
        path: '/auth/verify-code',
        method: 'POST',
        options: { headers, body: { phone: '+996555000001', verification_code: '000000', [injection]: injection } }
      },
      {
        path: '/api/v1/users/me',
        method: 'PATCH',
        options: { token, headers, body: { full_name: `${injection}\n\x1b[31m\u2028` } }
      }
    ]) await service.request(request.method ?? 'GET', request.path, request.options)
  }
  const written = service.log.slice(start)
  t.ok(written.length >= injections.length * 8)
  for (const line of written) {
    t.equal(line.indexOf('\n'), line.length - 1, 'one line')
    t.notMatch(line, new RegExp(marker, 'i'))
    t.notMatch(line.slice(0, -1), /[\p{Cc}\p{Zl}\p{Zp}]/u)
    t.strictSame([typeof JSON.parse(line).event, JSON.parse(line).level < 40], ['string', true])
  }

  const { log, lines } = logger()
  log.info({ a: 'x\n{"level":60}\r\x1b[31m\0"}{' }, 'y\n{"level":60}')
  t.equal(lines.length, 1)
  t.equal((lines[0] as string).indexOf('\n'), (lines[0] as string).length - 1)
  t.match(JSON.parse(lines[0] as string), { level: 30, a: 'x\n{"level":60}\r\x1b[31m\0"}{' },
    'logged values are escaped')
})

t.test('an error class of a provider cannot bring a secret into the response', async (t) => {
  const service = await testService(t, {
    overrides: {
      sms: async ({ to, text }) => {
        throw Object.assign(new SmsRefused(`${to}: ${text}`), { code: to, response: { to, text } })
      }
    }
  })
  const to = newPhone()
  const { status, body } = await service.send(to)
  t.strictSame([status, body.code], [502, 'sms_failed'])
  t.notMatch(JSON.stringify({ ...body, request_id: '' }), /\d{6}/)
  t.equal(findLeak(service.log.map(withoutIds).join('\n'), [to]), undefined)
  t.notMatch(service.log.map(withoutIds).join('\n'), /(?<![\d.:])\d{6}(?!\d)/)
})
