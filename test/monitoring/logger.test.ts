import { DrizzleQueryError, sql } from 'drizzle-orm'
import { drizzle } from 'drizzle-orm/node-postgres'
import pg from 'pg'
import { pino } from 'pino'
import t, { type Test } from 'tap'
import { SmsRefused, SmsUncertain, type SmsSender } from '../../src/messages/index.js'
import { Problem } from '../../src/http/problems.js'
import { loggerOptions, serializeError } from '../../src/monitoring/logger.js'
import { outageLog } from '../../src/monitoring/outage-log.js'
import { newPhone, testDatabase, testRedis, testService, type Json } from '../helpers/service.js'

const phone = '+996555123456'
const code = '493817'
const base64url = (text: string) => Buffer.from(text).toString('base64url')
const token = [
  base64url('{"alg":"HS256","typ":"JWT"}'), base64url('{"user_id":19,"market":"kg"}'), `${'s-_S'.repeat(10)}abc`
].join('.')
const secret = `whsec_${Buffer.alloc(24, 'a key that signs').toString('base64')}`
const key = Buffer.alloc(33, '>>>???').toString('base64')
const confidential = [phone, phone.slice(1), '996 555', code, token, ...token.split('.'), secret, secret.slice(6), key]

/** A logger with the options of the service, and the lines that it writes. */
function logger (level = 'trace') {
  const lines: string[] = []
  return { log: pino(loggerOptions(level), { write: (line: string) => { lines.push(line) } }), lines }
}

/** The lines for an error that is passed to the log in every possible way. */
function linesOf (error: unknown): string[] {
  const { log, lines } = logger()
  log.error({ err: error })
  log.error({ error })
  log.error(error)
  log.error({ err: error }, 'in our words')
  if (error instanceof Error) {
    log.error({ err: error }, error.message)
    log.error(error, error.message)
  }
  return lines
}

/** Asserts that no line shows anything confidential, and returns what the first one shows of the error. */
function shown (t: Test, error: unknown): Json {
  const lines = linesOf(error)
  for (const line of lines) {
    t.doesNotThrow(() => JSON.parse(line), 'each line is JSON')
    t.equal(line.indexOf('\n'), line.length - 1, 'each entry is one line')
    for (const text of confidential) t.notOk(line.includes(text), `${text} in ${line}`)
  }
  t.match(lines[3], '"msg":"in our words"')
  return JSON.parse(lines[0] as string).err
}

const errorOf = (failing: PromiseLike<unknown>) =>
  failing.then(() => { throw new Error('it should have failed') }, (error: unknown) => error)

t.test('an error of PostgreSQL shows its SQLSTATE, and no parameter or row', async (t) => {
  const { url } = await testDatabase(t)
  const pool = new pg.Pool({ connectionString: url, max: 1 })
  t.teardown(() => pool.end())
  const db = drizzle({ client: pool })

  const cast = await errorOf(db.execute(sql`SELECT ${`tel ${phone} ${token}`}::integer, ${code}`))
  t.ok(cast instanceof DrizzleQueryError && cast.message.includes(phone), 'the error itself shows the number')
  t.match(
    shown(t, cast), { type: 'error', code: '22P02', message: 'invalid input syntax for type integer: "tel • •.•.•"' }
  )

  await pool.query('INSERT INTO users (phone_number) VALUES ($1)', [phone])
  const duplicate = await errorOf(pool.query('INSERT INTO users (phone_number) VALUES ($1)', [phone]))
  t.ok(JSON.stringify(duplicate).includes(phone), 'the error itself shows the number')
  t.match(
    shown(t, duplicate),
    { code: '23505', message: 'duplicate key value violates unique constraint "users_phone_number_key"' }
  )

  const unanswered = new DrizzleQueryError('select $1', [phone, code, token, key])
  t.match(shown(t, unanswered), { type: 'Error', code: undefined })
})

t.test('an error of Redis shows no argument of its command', async (t) => {
  const { redis } = await testRedis(t)
  await redis.set('text', 'x')
  const wrongType = await errorOf(redis.lpush('text', phone, code, token))
  t.ok(JSON.stringify(wrongType).includes(phone), 'the error itself shows the number')
  t.match(shown(t, wrongType), { type: 'ReplyError', message: /^WRONGTYPE / })
  shown(
    t, await errorOf(redis.eval('return redis.error_reply(ARGV[1])', 0, `ERR no room for ${phone} ${code} ${token}`))
  )
})

t.test('an error of an SMS provider shows neither number nor message nor key', async (t) => {
  t.match(shown(t, new SmsRefused(`no route to ${phone}: code ${code}`)), { message: 'no route to •: code •' })
  const cause = new TypeError(`fetch failed with ${secret} and ${key}`)
  t.match(shown(t, new SmsUncertain('the webhook did not respond', { cause })),
    { type: 'TypeError', message: 'fetch failed with • and •' })
  const uncertain = new SmsUncertain(`to +996 (555) 123-456 or 996 555 123456, ${token}`)
  t.match(shown(t, new Problem('sms_failed', { cause: uncertain })), { message: 'to • or •, •.•.•' })
})

t.test('an error is one line, with a message of several lines, without a stack or without a message', async (t) => {
  shown(t, new Error(`first\nsecond ${phone}\n${code}`))
  shown(t, new Error(`x\n    at ${phone} ${token}`))
  t.match(shown(t, new Problem('not_found')), { message: new Problem('not_found').message })
  t.match(
    shown(t, Object.assign(new AggregateError([new Error(phone)]), { code: 'ECONNREFUSED' })),
    { type: 'AggregateError', code: 'ECONNREFUSED', message: '' }
  )
})

t.test('a thrown value that is not an error shows only its type', async (t) => {
  const { log, lines } = logger()
  for (const thrown of [phone, Number(code), { phone, token }, null]) log.error({ err: thrown, error: thrown })
  t.strictSame(lines.map((line) => JSON.parse(line)).map(({ err, error }) => [err, error]), [
    [{ type: 'string' }, { type: 'string' }], [{ type: 'number' }, { type: 'number' }],
    [{ type: 'object' }, { type: 'object' }], [{ type: 'object' }, { type: 'object' }]
  ])
})

t.test('an error shows where it was thrown', async (t) => {
  t.match(serializeError(new Error('x')).stack, /^ {4}at .*logger\.test\.[jt]s:\d+:\d+/)
  t.notMatch(serializeError(new Error('x')).stack, '•')
})

t.test('messages of the service and their arguments are not changed', async (t) => {
  const { log, lines } = logger()
  log.info('listening on %s', 'http://127.0.0.1:3000')
  log.info({ event: 'start', err: undefined }, 'ready')
  log.info(null, 'ready')
  t.strictSame(lines.map((line) => JSON.parse(line).msg), ['listening on http://127.0.0.1:3000', 'ready', 'ready'])
})

t.test('a request and a reply are never shown', async (t) => {
  const { log, lines } = logger()
  log.info({ req: { url: `/x?${phone}`, headers: { authorization: `Bearer ${token}` } }, res: { body: code } })
  t.strictSame(Object.keys(JSON.parse(lines[0] as string)).sort(), ['hostname', 'level', 'msg', 'pid', 'time'])
})

t.test('an outage of a dependency is logged once and its end once, however often either is reported', async (t) => {
  const { log, lines } = logger()
  const outage = outageLog(log, 'Redis')
  outage.up()
  outage.down(new Error('gone'))
  outage.down(new Error('gone'))
  outage.up()
  outage.up()
  outage.down(new Error('gone again'))
  t.strictSame(lines.map((line) => JSON.parse(line)).map(
    ({ level, event, dependency, err }) => ({ level, event, dependency, message: err?.message })
  ), [
    { level: 50, event: 'dependency_down', dependency: 'Redis', message: 'gone' },
    { level: 30, event: 'dependency_up', dependency: 'Redis', message: undefined },
    { level: 50, event: 'dependency_down', dependency: 'Redis', message: 'gone again' }
  ])
})

const traceparent = '00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01'

t.test('each auth event is one line with the event, the user, the client IP, the request and the trace', async (t) => {
  const failing = { now: false }
  const service = await testService(t, {
    env: { LOG_LEVEL: 'info' },
    overrides: {
      sms: async (message) => {
        if (failing.now) throw new SmsRefused()
        service.sms.push(message)
      }
    }
  })
  const events = async (requestId: string, request: (headers: Record<string, string>) => Promise<unknown>) => {
    await request({ 'x-request-id': requestId, traceparent })
    const lines = service.log.map((line) => JSON.parse(line) as Json)
      .filter(({ request_id: id, level }) => id === requestId && level === 30)
    t.strictSame(lines.map((line) => line.traceparent), lines.map(() => traceparent), requestId)
    return lines
  }
  const phone = newPhone('us')
  const masked = `+1•••••••${phone.slice(-2)}`
  const client = '127.0.0.1'
  const send = (headers: Record<string, string>) =>
    service.request('POST', '/auth/send-verification', { body: { phone }, headers })

  failing.now = true
  t.match(await events('failed', send), [{ event: 'sms_failed', phone: masked, client, request_id: 'failed' }])
  failing.now = false
  t.match(
    await events('sent', send),
    [{ event: 'code_sent', phone: masked, client, request_id: 'sent', message_id: service.sms.at(-1)?.id }]
  )
  t.match(
    await events('limit', send), [{ event: 'limit_hit', phone: masked, client, request_id: 'limit', limit: 'too_soon' }]
  )
  const code = service.codeOf(phone)
  t.match(await events('wrong', (headers) => service.request('POST', '/auth/verify-code', {
    body: { phone, verification_code: code === '000000' ? '111111' : '000000' }, headers
  })), [{ event: 'wrong_code', phone: masked, client, request_id: 'wrong' }])

  let token = ''
  const login = await events('login', async (headers) => {
    token = (
      await service.request('POST', '/auth/verify-code', { body: { phone, verification_code: code }, headers })
    ).body.access_token
  })
  const [{ id }] = await service.sql('SELECT id FROM users WHERE phone_number = $1', [phone]) as [{ id: number }]
  t.match(login, [{ event: 'login', user_id: id, phone: masked, client, request_id: 'login', is_new_user: true }])
  t.match(await events('logout', (headers) => service.request('POST', '/auth/logout', { token, headers })),
    [{ event: 'logout', user_id: id, phone: masked, client, request_id: 'logout' }])

  const other = newPhone()
  const { token: otherToken, user } = await service.login(other)
  const deleted = await events('deleted', (headers) =>
    service.request('DELETE', '/api/v1/users/me', { token: otherToken, headers }))
  const otherMasked = `+996•••••••${other.slice(-2)}`
  t.match(deleted,
    [{ event: 'account_deleted', user_id: user.id, phone: otherMasked, client, request_id: 'deleted' }])
})

t.test('a malformed traceparent reaches neither the log nor the provider', async (t) => {
  const contexts: unknown[] = []
  const sms: SmsSender = async (_message, context) => { contexts.push(context) }
  const service = await testService(t, { overrides: { sms } })
  for (const header of [traceparent, `${traceparent}-${'x'.repeat(50)}`, '+996555123456']) {
    await service.request('POST', '/auth/send-verification', {
      body: { phone: newPhone() }, headers: { traceparent: header }
    })
  }
  await service.send(newPhone())

  const lines = service.log.map((line) => JSON.parse(line) as Json).filter(({ event }) => event === 'code_sent')
  t.strictSame(lines.map((line) => line.traceparent), [traceparent, undefined, undefined, undefined])
  t.strictSame(contexts, [traceparent, undefined, undefined, undefined].map((value) => ({ traceparent: value })))
})

t.test('a response of 500 and above is one line with its cause at level info', async (t) => {
  const service = await testService(t, {
    env: { LOG_LEVEL: 'info' }, overrides: { newNonce: () => { throw new Error(`no nonce for ${phone}`) } }
  })
  await service.request('POST', '/api/v1/auth/send-verification', {
    body: { phone: newPhone() }, headers: { 'x-request-id': 'bug', traceparent }
  })
  const lines = service.log.map((line) => JSON.parse(line) as Json).filter(({ request_id: id }) => id === 'bug')
  t.equal(lines.length, 1)
  const { time, pid, hostname, err, msg, ...line } = lines[0]
  t.strictSame(line, {
    level: 50,
    event: 'error',
    status: 500,
    code: 'internal_error',
    method: 'POST',
    route: '/api/v1/auth/send-verification',
    client: '127.0.0.1',
    request_id: 'bug',
    traceparent
  })
  t.match(err, { type: 'Error', message: 'no nonce for •', stack: /^ {4}at / })
})

t.test('other responses are logged at debug and trace only', async (t) => {
  for (const [level, isLogged] of [['info', false], ['debug', true], ['trace', true]] as const) {
    const service = await testService(t, { env: { LOG_LEVEL: level } })
    const path = `/api/v1/profile/addresses/${newPhone().slice(1)}`
    await service.request('GET', path, { headers: { 'x-request-id': 'other' } })
    const lines = service.log.map((line) => JSON.parse(line) as Json).filter(({ request_id: id }) => id === 'other')
    t.strictSame(lines.map(
      ({ level, event, status, method, route }) => ({ level, event, status, method, route })
    ), isLogged
      ? [{ level: 20, event: 'answer', status: 401, method: 'GET', route: '/api/v1/profile/addresses/:id' }]
      : [], level)
  }
})

t.test('a response of 500 and above is one line at every level', async (t) => {
  for (const level of ['info', 'trace']) {
    const service = await testService(t, {
      env: { LOG_LEVEL: level }, overrides: { newNonce: () => { throw new Error('a bug') } }
    })
    t.equal(
      (await service.request('POST', '/auth/send-verification', {
        body: { phone: newPhone() }, headers: { 'x-request-id': 'bug' }
      })).status,
      500
    )
    t.match(
      service.log.map((line) => JSON.parse(line) as Json).filter(({ request_id: id }) => id === 'bug'),
      [{ level: 50, event: 'error', status: 500 }], level
    )
  }
})

t.test('LOG_LEVEL=silent logs nothing', async (t) => {
  const service = await testService(t, { env: { LOG_LEVEL: 'silent' } })
  await service.login(newPhone())
  t.strictSame(service.log, [])
})
