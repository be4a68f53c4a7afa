import t, { type Test } from 'tap'
import { problemOf } from '../helpers/responses.js'
import { testDatabase, testService, type Service } from '../helpers/service.js'

const phone = '+13125550100'
const code = '480513'
const masked = '+1•••••••00'
const day = 86_400

/** A service with test numbers, strict limits for all others, and a clock that `at` sets, in seconds from now. */
async function testPhoneService (t: Test, env: Record<string, string> = {}) {
  const start = Date.now()
  let now = start
  const service = await testService(t, {
    env: {
      TEST_PHONES: `${phone}=${code},+996000000001=271828`,
      CODE_SENDS_PER_HOUR: '1',
      CODE_SENDS_PER_DAY: '1',
      SMS_GUARD_BLOCK_SENDS: '1',
      SMS_GUARD_MARKET_SENDS: '1',
      ...env
    },
    overrides: { clock: () => now }
  })
  for (const secret of [phone, '+996000000001']) service.confidential.add(secret)
  return { ...service, at (seconds: number) { now = start + seconds * 1000 } }
}

/** Signs in with a fixed code. */
async function login (service: Service, number = phone, fixed = code) {
  const sent = await service.send(number)
  return sent.status === 200 ? service.verify(number, fixed) : sent
}

const passes = async (service: Service, token: string) =>
  (await service.request('GET', '/auth/verify-token', { token })).status
const lines = (service: Service, event: string) =>
  service.log.map((line) => JSON.parse(line)).filter((line) => line.event === event)

t.test('a test number signs in with its code any number of times, and the provider gets no message', async (t) => {
  const service = await testPhoneService(t)
  const sent = await service.send(phone)
  t.strictSame(sent.body, {
    success: true,
    message: 'A code is on its way by SMS.',
    phone_number: '+1 (312) 555-0100',
    market: 'us',
    language: 'en',
    expires_in: 300,
    expires_in_minutes: 5,
    retry_after: 60
  })
  const first = await service.verify(phone, code)
  t.match(first, { status: 200, body: { user: { phone, market: 'us' }, market: 'us', is_new_user: true } })
  for (let times = 0; times < 20; times++) {
    t.match(await login(service), { status: 200, body: { is_new_user: false, user: { id: first.body.user.id } } })
  }
  t.equal(await passes(service, first.body.access_token), 200)
  t.match(await login(service, '+996000000001', '271828'), { status: 200, body: { market: 'kg', is_new_user: true } })
  t.strictSame(service.sms, [])
})

t.test('neither the cooldown nor the caps nor the pumping guard count a test number', async (t) => {
  const service = await testPhoneService(t)
  for (let times = 0; times < 30; times++) t.equal((await service.send(phone)).status, 200)
  t.equal((await service.verify(phone, code)).status, 200)
  t.strictSame(await service.redis.keys('phone-auth:guard:*'), [], 'the guard counts neither sends nor the first login')
  t.strictSame(lines(service, 'guard_tripped'), [])

  // The only send that the block and the market admit goes to another number, and pauses them.
  t.equal(
    (await service.send('+996000000002')).body.code, 'invalid_request', 'an unassigned neighbour is not a valid number'
  )
  t.equal((await service.send('+13128059851')).status, 200)
  t.equal((await service.send('+13128059852')).body.code, 'too_many_sends')
  t.equal((await login(service)).status, 200, 'a paused market does not stop a test number')
})

t.test('a login of a test number does not change what the pumping guard counts for other numbers', async (t) => {
  const service = await testPhoneService(t, { TEST_PHONES: '+13128059850=480513' })
  t.equal((await login(service, '+13128059850', '480513')).status, 200)
  t.equal((await service.send('+13128059851')).status, 200, 'the first send that counts in its block')
  t.equal((await service.send('+13128059852')).body.code, 'too_many_sends')
})

t.test('all spellings of a test number share its code, its attempts and its user', async (t) => {
  const service = await testPhoneService(t)
  for (const spelling of ['13125550100', '+1 (312) 555-0100', ' 1-312-555-0100 ', '+1312 5550100']) {
    t.equal((await service.send(spelling)).status, 200, spelling)
    t.equal((await service.verify(spelling, code)).status, 200, spelling)
  }
  await service.send('13125550100')
  t.equal((await service.verify('+1 (312) 555-0100', '654321')).body.attempts_remaining, 4)
  t.equal((await service.verify('+1312-5550100', '654321')).body.attempts_remaining, 3)
  t.equal((await service.sql('SELECT phone_number FROM users')).length, 1)
})

t.test('the code of a test number works once after each send, until it expires', async (t) => {
  const service = await testPhoneService(t)
  t.strictSame(...problemOf(await service.verify(phone, code), 400, 'Bad Request', 'invalid_code'))
  await service.send(phone)
  t.equal((await service.verify(phone, code)).status, 200)
  t.strictSame(...problemOf(await service.verify(phone, code), 400, 'Bad Request', 'invalid_code'))
  await service.send(phone)
  service.at(300)
  t.strictSame(...problemOf(await service.verify(phone, code), 400, 'Bad Request', 'invalid_code'))
})

t.test('of 100 parallel requests with the right code, one signs in', async (t) => {
  const service = await testPhoneService(t)
  const sends = await Promise.all(Array.from({ length: 50 }, () => service.send(phone)))
  t.ok(sends.every(({ status }) => status === 200))
  const responses = await Promise.all(Array.from({ length: 100 }, () => service.verify(phone, code)))
  t.equal(responses.filter(({ status }) => status === 200).length, 1)
  t.equal(responses.filter(({ body }) => body.code === 'invalid_code').length, 99)
  t.equal((await login(service)).status, 200, 'the others do not count as wrong guesses')
})

t.test('fifty wrong guesses block a test number for a day, but no other number', async (t) => {
  const service = await testPhoneService(t)
  for (let round = 0; round < 10; round++) {
    t.equal((await service.send(phone)).status, 200)
    for (const left of [4, 3, 2, 1, 0]) {
      t.strictSame(...problemOf(
        await service.verify(phone, '654321'), 400, 'Bad Request', 'invalid_code', { attempts_remaining: left }
      ))
    }
  }
  service.at(100)
  const closed = await service.send(phone)
  t.strictSame(...problemOf(closed, 429, 'Too Many Requests', 'too_many_sends', { retry_after: day - 100 }))
  t.equal(closed.headers.get('retry-after'), String(day - 100))
  t.strictSame(...problemOf(await service.verify(phone, code), 400, 'Bad Request', 'invalid_code'))
  t.equal((await login(service, '+996000000001', '271828')).status, 200)
  t.match(lines(service, 'limit_hit'), [{ phone: masked, limit: 'too_many' }])
  service.at(day)
  t.equal((await login(service)).status, 200)
})

t.test('of 200 parallel wrong guesses the service compares only five, and they block a test number', async (t) => {
  const service = await testPhoneService(t)
  await service.send(phone)
  const responses = await Promise.all(Array.from({ length: 200 }, () => service.verify(phone, '654321')))
  const attempts = responses.map(({ body }) => body.attempts_remaining).filter((left) => left !== undefined)
  t.strictSame(attempts.sort(), [0, 1, 2, 3, 4])
  t.equal((await service.send(phone)).body.code, 'too_many_sends')
})

t.test('a login that PostgreSQL refuses restores the code of a test number', async (t) => {
  const service = await testPhoneService(t)
  await service.send(phone)
  await service.sql('ALTER TABLE users RENAME TO away')
  t.equal((await service.verify(phone, code)).status, 503)
  await service.sql('ALTER TABLE away RENAME TO users')
  t.equal((await service.verify(phone, code)).status, 200)
})

t.test('a test number can log out and in until last_login is 30 s ahead; revoked tokens stay revoked', async (t) => {
  const service = await testPhoneService(t)
  const tokens: string[] = []
  let refused = await login(service)
  for (; refused.status === 200 && tokens.length < 100; refused = await login(service)) {
    const token = refused.body.access_token as string
    tokens.push(token)
    t.equal(await passes(service, token), 200)
    t.equal((await service.request('POST', '/auth/logout', { token })).status, 200)
  }
  t.ok(tokens.length >= 30, `${tokens.length} logins`)
  const { retry_after: wait } = refused.body
  t.ok(wait >= 1 && wait <= 2, `wait ${wait} s`)
  t.strictSame(...problemOf(refused, 429, 'Too Many Requests', 'rate_limited', { retry_after: wait }))
  t.equal(refused.headers.get('retry-after'), String(wait))
  t.match(lines(service, 'limit_hit'), [{ phone: masked, limit: 'login' }])
  t.equal((await service.sql('SELECT last_value::int FROM users_id_seq'))[0].last_value, 1, 'no login takes an id')

  // The state after that time: the unused code still works.
  await service.sql('UPDATE users SET last_login = last_login - make_interval(secs => $1)', [wait])
  const next = await service.verify(phone, code)
  t.equal(next.status, 200)
  t.equal(await passes(service, next.body.access_token), 200)
  for (const token of tokens.slice(0, -wait)) t.equal(await passes(service, token), 401)
})

t.test('last_login is never more than 31 s ahead, however many logins and logouts run in parallel', async (t) => {
  const service = await testPhoneService(t)
  await login(service)
  await service.sql(
    "UPDATE users SET last_login = date_trunc('second', now() AT TIME ZONE 'utc') + interval '50 seconds'"
  )
  t.equal((await login(service)).status, 429)
  await service.sql("UPDATE users SET last_login = last_login - interval '22 seconds', is_active = FALSE")
  const counts: Record<number, number> = {}
  const leads: number[] = []
  await Promise.all(Array.from({ length: 20 }, async () => {
    for (let times = 0; times < 5; times++) {
      const { status, body } = await login(service)
      counts[status] = (counts[status] ?? 0) + 1
      const [{ lead }] = await service.sql(
        "SELECT extract(epoch FROM last_login - now() AT TIME ZONE 'utc')::float8 AS lead FROM users"
      ) as [{ lead: number }]
      leads.push(lead)
      if (status === 200) await service.request('POST', '/auth/logout', { token: body.access_token })
    }
  }))
  t.comment(JSON.stringify({ counts, lead: Math.max(...leads) }))
  t.ok((counts[200] ?? 0) > 1)
  t.ok(Math.max(...leads) <= 31)
})

t.test('the limit of a client IP counts requests for a test number like all others', async (t) => {
  const service = await testPhoneService(t, { RATE_LIMIT_IP_MAX: '3' })
  for (let times = 0; times < 3; times++) t.equal((await service.send(phone)).status, 200)
  t.equal((await service.send(phone)).body.code, 'rate_limited')
  t.equal((await service.verify(phone, code)).body.code, 'rate_limited')
})

t.test('each use of a test number logs a warning with the masked number and without the code', async (t) => {
  const service = await testPhoneService(t)
  service.confidential.add(code).add('654321')
  await service.send(phone)
  await service.verify(phone, '654321')
  const { body } = await service.verify(phone, code)
  await service.send(phone)
  const logged = lines(service, 'test_phone')
  t.strictSame(logged.map(({ level, phone, action, user_id: id }) => ({ level, phone, action, id })), [
    { level: 40, phone: masked, action: 'send', id: undefined },
    { level: 40, phone: masked, action: 'verify', id: undefined },
    { level: 40, phone: masked, action: 'verify', id: undefined },
    { level: 40, phone: masked, action: 'send', id: body.user.id }
  ])
  t.ok(lines(service, 'test_phone').every(({ client, request_id: id }) => client && id))
  t.strictSame(lines(service, 'code_sent'), [], 'the service sends nothing')
})

t.test('deleting the account of a test number deletes its live code', async (t) => {
  const service = await testPhoneService(t)
  const { body } = await login(service)
  await service.send(phone)
  t.equal((await service.request('DELETE', '/api/v1/users/me', { token: body.access_token })).status, 204)
  t.equal((await service.verify(phone, code)).body.code, 'invalid_code')
  t.match(await login(service), { status: 200, body: { is_new_user: true } })
})

t.test('Redis shows neither a test number nor its code, and its state has a TTL', async (t) => {
  const service = await testPhoneService(t)
  await service.send(phone)
  await service.verify(phone, '654321')
  const keys = await service.redis.keys('phone-auth:code:*')
  t.equal(keys.length, 1)
  const [key] = keys as [string]
  t.notMatch(key + JSON.stringify(await service.redis.hgetall(key)), /3125550100|480513|654321/)
  t.ok(await service.redis.ttl(key) > 0)
})

t.test('a number that is no longer in TEST_PHONES loses its fixed code at once', async (t) => {
  const service = await testPhoneService(t, { TEST_PHONES: '+13128059850=480513' })
  const number = '+13128059850'
  await service.send(number)
  const { JWT_SECRET, CODE_SECRET, REDIS_URL } = service.env as {
    JWT_SECRET: string, CODE_SECRET: string, REDIS_URL: string
  }
  const next = await testService(t, {
    database: service.database, redis: { url: REDIS_URL, redis: service.redis }, env: { JWT_SECRET, CODE_SECRET }
  })
  t.equal((await next.verify(number, '480513')).body.code, 'invalid_code')
  t.equal((await next.send(number)).status, 200)
  t.equal(next.sms.length, 1)
})

t.test('test numbers work in development', async (t) => {
  const { url } = await testDatabase(t)
  const service = await testService(t, {
    env: { NODE_ENV: 'development', DATABASE_URL: url, REDIS_URL: '', TEST_PHONES: `${phone}=${code}` }
  })
  service.confidential.add(phone)
  for (let times = 0; times < 2; times++) t.equal((await login(service)).status, 200)
  for (let guesses = 0; guesses < 50; guesses++) await service.verify(phone, '654321')
  t.equal((await service.send(phone)).body.code, 'too_many_sends')
  t.strictSame(service.sms, [])
})
