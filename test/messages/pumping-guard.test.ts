import t from 'tap'
import { testService, type Service } from '../helpers/service.js'

const behindGateway = { TRUST_PROXY: '127.0.0.1' }

/** The n-th number of a block: E.164 without the last four digits. */
const numberOf = (block: string, n: number) => `${block}${String(n).padStart(4, '0')}`

/** A send from one client IP. */
const sendFrom = (service: Service, client: string, phone: string) =>
  service.request('POST', '/auth/send-verification', { body: { phone }, headers: { 'x-forwarded-for': client } })

let clients = 0
/** A send from a new client IP. */
const send = (service: Service, phone: string) => sendFrom(service, `198.18.${clients >> 8}.${clients++ & 255}`, phone)

/** The log lines of the pumping guard. */
const trips = (service: Service) =>
  service.log.map((line) => JSON.parse(line)).filter(({ event }) => event === 'guard_tripped')

t.test('a client IP gets 10 messages to unknown numbers, also in parallel and over many blocks', async (t) => {
  // The guard counts by the minute: a fixed clock keeps all sends in one.
  const now = Date.now()
  const service = await testService(t,
    { env: { ...behindGateway, SMS_GUARD_CLIENT_SENDS: '10' }, overrides: { clock: () => now } })
  const phones = Array.from({ length: 60 }, (_, n) => numberOf(`+9965${50 + n % 10}${String(n).padStart(2, '0')}`, n))

  const attack = await Promise.all(phones.map((phone) => sendFrom(service, '203.0.113.7', phone)))

  t.equal(attack.filter(({ status }) => status === 200).length, 10)
  const refused = attack.filter(({ status }) => status !== 200)
  t.equal(refused.length, 50)
  for (const { body } of refused) t.match(body, { code: 'too_many_sends', retry_after: 3600 })
  t.equal(service.sms.length, 10)
  t.match(trips(service)[0], { level: 40, scope: 'client', market: 'kg', mode: 'enforce' })
  t.equal((await sendFrom(service, '203.0.113.8', '+996700120001')).status, 200)
})

t.test('refused sends of one client IP never pause a market, not even for a moment', async (t) => {
  const service = await testService(t,
    { env: { ...behindGateway, SMS_GUARD_MARKET_SENDS: '40', SMS_GUARD_CLIENT_SENDS: '10' } })
  const phones = Array.from({ length: 150 },
    (_, n) => numberOf(`+9965${50 + n % 10}${String(n % 97).padStart(2, '0')}`, n))
  const honest = Array.from({ length: 25 }, (_, n) => numberOf(`+99670${n + 10}2`, n))

  const [attack, responses] = await Promise.all([
    Promise.all(phones.map((phone) => sendFrom(service, '203.0.113.7', phone))),
    Promise.all(honest.map((phone) => send(service, phone)))
  ])

  t.equal(attack.filter(({ status }) => status === 200).length, 10)
  t.strictSame(responses.map(({ status }) => status), honest.map(() => 200))
})

t.test('the pumping guard counts an IPv6 client by its /64', async (t) => {
  const service = await testService(t, { env: { ...behindGateway, SMS_GUARD_CLIENT_SENDS: '1' } })
  t.equal((await sendFrom(service, '2001:db8:0:1::1', '+996555120001')).status, 200)
  t.equal((await sendFrom(service, '2001:db8:0:1::2', '+996700120002')).body.code, 'too_many_sends')
  t.equal((await sendFrom(service, '2001:db8:0:2::1', '+996700120002')).status, 200)
})

t.test('a refused send counts in no scope: neither client IP, nor block, nor market', async (t) => {
  const service = await testService(t,
    { env: { ...behindGateway, SMS_GUARD_CLIENT_SENDS: '2', SMS_GUARD_BLOCK_SENDS: '2', SMS_GUARD_MARKET_SENDS: '3' } })
  for (const phone of ['+996555120001', '+996555120002']) t.equal((await send(service, phone)).status, 200)
  for (let tries = 0; tries < 3; tries++) {
    t.equal((await sendFrom(service, '203.0.113.7', '+996555120003')).body.code, 'too_many_sends')
  }
  t.equal((await sendFrom(service, '203.0.113.7', '+996700120001')).status, 200,
    'the refused sends do not count for the client IP')
  for (let tries = 0; tries < 3; tries++) {
    t.equal((await sendFrom(service, '203.0.113.7', '+996777120001')).body.code, 'too_many_sends')
  }
  t.strictSame(trips(service).map(({ scope }) => scope), ['block', 'block', 'block', 'market', 'market', 'market'])
})

t.test('a number is known until SESSION_MAX_SECONDS and 30 days after its last login', async (t) => {
  const day = 86_400_000
  let now = Date.now()
  const service = await testService(t, {
    env: {
      ...behindGateway, SESSION_MAX_SECONDS: '864000', SMS_GUARD_BLOCK_SENDS: '1', SMS_GUARD_MIN_VERIFIED_PERCENT: '100'
    },
    overrides: { clock: () => now }
  })
  const insert = (phone: string, isVerified: boolean, lastLogin: number | null) => service.sql(
    `INSERT INTO users (phone_number, is_verified, last_login)
      VALUES ($1, $2, to_timestamp($3::float8) AT TIME ZONE 'utc')`,
    [phone, isVerified, lastLogin && lastLogin / 1000])
  await insert('+996555120001', true, now)
  await insert('+996555120002', true, null)
  await insert('+996555120003', false, now)

  now += 40 * day
  t.equal((await send(service, '+996555129999')).status, 200, 'the block allows one message')
  t.equal((await send(service, '+996555120001')).status, 200, 'logged in 40 days ago')
  for (const phone of ['+996555120002', '+996555120003']) {
    t.equal((await send(service, phone)).body.code, 'too_many_sends', phone)
  }

  now += 1
  await service.redis.flushdb()
  t.equal((await send(service, '+996555129999')).status, 200)
  t.equal((await send(service, '+996555120001')).body.code, 'too_many_sends',
    'its last login was more than 40 days ago')
})

t.test('an account that is deleted and created three times counts as verified once', async (t) => {
  const service = await testService(t,
    { env: { ...behindGateway, SMS_GUARD_BLOCK_SENDS: '4', SMS_GUARD_MIN_VERIFIED_PERCENT: '50' } })
  for (let times = 0; times < 3; times++) {
    const { token } = await service.login('+996555120001')
    t.equal((await service.request('DELETE', '/api/v1/users/me', { token })).status, 204)
  }
  t.equal((await send(service, '+996555120002')).status, 200)
  t.equal((await send(service, '+996555120003')).body.code, 'too_many_sends', 'one of four is verified')
  t.equal((await service.verify('+996555120002', service.codeOf('+996555120002'))).status, 200)
  t.equal((await send(service, '+996555120003')).status, 200, 'two of four are verified')
})

t.test('a login counts for the client IP that requested the message', async (t) => {
  const service = await testService(t,
    { env: { ...behindGateway, SMS_GUARD_CLIENT_SENDS: '1', SMS_GUARD_MIN_VERIFIED_PERCENT: '100' } })
  t.equal((await sendFrom(service, '203.0.113.7', '+996555120001')).status, 200)
  t.equal((await sendFrom(service, '203.0.113.7', '+996555120002')).body.code, 'too_many_sends')
  t.equal((await service.verify('+996555120001', service.codeOf('+996555120001'))).status, 200, 'from 127.0.0.1')
  t.equal((await sendFrom(service, '203.0.113.7', '+996555120002')).status, 200)
})

t.test('neither another login of a known number nor a failed login counts as verified', async (t) => {
  const service = await testService(t,
    { env: { ...behindGateway, SMS_GUARD_BLOCK_SENDS: '2', SMS_GUARD_MIN_VERIFIED_PERCENT: '50' } })
  await service.sql(`INSERT INTO users (phone_number, is_verified, last_login)
    VALUES ('+996555120001', TRUE, now() - interval '1 day')`)
  await service.login('+996555120001')
  for (const phone of ['+996555120002', '+996555120003']) t.equal((await send(service, phone)).status, 200)
  await service.sql('ALTER TABLE users RENAME TO users_away')
  t.equal((await service.verify('+996555120002', service.codeOf('+996555120002'))).status, 503)
  await service.sql('ALTER TABLE users_away RENAME TO users')
  t.equal((await send(service, '+996555120004')).body.code, 'too_many_sends')
  t.equal((await service.verify('+996555120002', service.codeOf('+996555120002'))).status, 200, 'the code is restored')
  t.equal((await send(service, '+996555120004')).status, 200)
})
