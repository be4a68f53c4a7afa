import t from 'tap'
import { testService, type Service } from '../helpers/service.js'

const production = { SMS_GUARD_BLOCK_SENDS: '20', SMS_GUARD_MARKET_SENDS: '200', TRUST_PROXY: '127.0.0.1' }

/** The n-th number of a block: E.164 without the last four digits. */
const numberOf = (block: string, n: number) => `${block}${String(n).padStart(4, '0')}`
const addressOf = (n: number) => `198.${18 + (n >> 16 & 1)}.${n >> 8 & 255}.${n & 255}`
let clients = 0

/** A send from a new client IP, as of a botnet. */
const send = (service: Service, phone: string) => service.request('POST', '/auth/send-verification', {
  body: { phone }, headers: { 'x-forwarded-for': addressOf(clients++) }
})

/** A send from one client IP. */
const sendFrom = (service: Service, client: string, phone: string) =>
  service.request('POST', '/auth/send-verification', { body: { phone }, headers: { 'x-forwarded-for': client } })

/** Sends to all numbers, ten at a time. Counts the responses by status. */
async function flood (service: Service, phones: string[]) {
  const counts: Record<string, number> = {}
  const queue = [...phones]
  await Promise.all(Array.from({ length: 10 }, async () => {
    for (let phone = queue.shift(); phone !== undefined; phone = queue.shift()) {
      const { status, body } = await send(service, phone)
      const key = status === 200 ? 'sent' : String(body.code)
      counts[key] = (counts[key] ?? 0) + 1
    }
  }))
  return counts
}

/** Signs in from a new client IP. */
async function login (service: Service, phone: string) {
  const sent = await send(service, phone)
  if (sent.status !== 200) return sent.status
  const { status } = await service.request('POST', '/auth/verify-code', {
    body: { phone, verification_code: service.codeOf(phone) }, headers: { 'x-forwarded-for': addressOf(clients++) }
  })
  return status
}

/** The log lines of the pumping guard. */
const trips = (service: Service) =>
  service.log.map((line) => JSON.parse(line)).filter(({ event }) => event === 'guard_tripped')

t.test('of 5,000 sends to one block from 5,000 client IPs, 20 pass; other blocks lose none', async (t) => {
  const service = await testService(t, { env: { ...production, SMS_GUARD_MARKET_SENDS: '1000000' } })
  const known = numberOf('+99655512', 7000)
  t.equal(await login(service, known), 200)

  const honest = Array.from({ length: 60 }, (_, n) => numberOf('+99670012', n))
  let answered = 0
  const [attack] = await Promise.all([
    flood(service, Array.from({ length: 5000 }, (_, n) => numberOf('+99655512', n))),
    (async () => {
      // Nine of ten real people verify.
      for (const [n, phone] of honest.entries()) {
        const status = n % 10 === 9 ? (await send(service, phone)).status : await login(service, phone)
        if (status === 200) answered++
      }
    })()
  ])
  // The 20th message is that of the first login of the known number.
  t.strictSame(attack, { sent: 19, too_many_sends: 4981 })
  t.equal(answered, honest.length)

  t.equal((await service.sql('SELECT count(*)::int AS n FROM users'))[0].n, 1 + 54)
  await service.redis.del(await service.redis.keys('phone-auth:code:*'))
  t.equal(await login(service, known), 200, 'a known number passes a paused block')
  const decisions = trips(service)
  t.equal(decisions.length, 4981)
  t.match(decisions[0], {
    level: 40,
    scope: 'block',
    market: 'kg',
    mode: 'enforce',
    phone: /^\+996•••••••\d\d$/,
    client: /^198\./,
    request_id: String
  })
})

t.test('an attack over 300 blocks stops at about 200 messages in its market; another market works', async (t) => {
  const service = await testService(t, { env: production })
  const blocks = Array.from({ length: 300 },
    (_, n) => `+9965${String(50 + n % 10)}${String(Math.floor(n / 10)).padStart(2, '0')}`)
  const phones = Array.from({ length: 3000 }, (_, n) => numberOf(blocks[n % 300] as string, n))
  const attack = await flood(service, phones)
  t.ok((attack.sent ?? 0) >= 190 && (attack.sent ?? 0) <= 210, JSON.stringify(attack))
  t.equal(attack.too_many_sends, 3000 - (attack.sent as number))
  const { body, headers } = await send(service, numberOf('+99677712', 1))
  t.equal(body.code, 'too_many_sends')
  t.ok(body.retry_after > 3300 && body.retry_after <= 3600)
  t.equal(headers.get('retry-after'), String(body.retry_after))
  t.equal((await send(service, '+13128059851')).status, 200)
})

t.test('a send that the pumping guard refuses leaves no code, no cooldown and no count', async (t) => {
  const service = await testService(t, { env: { ...production, SMS_GUARD_BLOCK_SENDS: '1' } })
  t.equal((await send(service, '+996555120001')).status, 200)
  const before = (await service.redis.keys('phone-auth:code:*')).length
  for (let i = 0; i < 5; i++) t.equal((await send(service, '+996555120002')).body.code, 'too_many_sends')
  t.equal((await service.redis.keys('phone-auth:code:*')).length, before)
  t.equal(service.sms.length, 1)
})

t.test('enough logins of unknown numbers lift the pause; a known number is neither counted nor paused', async (t) => {
  const service = await testService(t,
    { env: { ...production, SMS_GUARD_BLOCK_SENDS: '4', SMS_GUARD_MIN_VERIFIED_PERCENT: '50' } })
  const phones = Array.from({ length: 6 }, (_, n) => numberOf('+99655512', n))
  const [a, b, c, d, e, f] = phones as [string, string, string, string, string, string]
  for (const phone of [a, b, c, d]) t.equal((await send(service, phone)).status, 200)
  t.equal((await send(service, e)).body.code, 'too_many_sends')
  for (const phone of [a, b]) t.equal((await service.verify(phone, service.codeOf(phone))).status, 200)
  t.equal((await send(service, e)).status, 200, 'two of four are verified')
  t.equal((await send(service, f)).body.code, 'too_many_sends', 'two of five are verified')
  await service.redis.del(await service.redis.keys('phone-auth:code:*'))
  t.equal(await login(service, a), 200)
  t.equal((await send(service, f)).body.code, 'too_many_sends', 'a second login of a known number does not count')
})

t.test('an unverified row of an earlier system counts as an unknown number', async (t) => {
  const service = await testService(t,
    { env: { ...production, SMS_GUARD_BLOCK_SENDS: '1', SMS_GUARD_MIN_VERIFIED_PERCENT: '100' } })
  await service.sql(
    'INSERT INTO users (phone_number, is_verified, last_login) VALUES ($1, NULL, now()), ($2, TRUE, now())',
    ['+996555120001', '+996555120002'])
  t.equal((await send(service, '+996555120001')).status, 200)
  t.equal((await send(service, '+996555120003')).body.code, 'too_many_sends')
  t.equal((await send(service, '+996555120002')).status, 200)
})

t.test('the pumping guard counts the last 60 minutes only', async (t) => {
  let now = Date.now()
  const service = await testService(t,
    { env: { ...production, SMS_GUARD_BLOCK_SENDS: '2' }, overrides: { clock: () => now } })
  t.equal((await send(service, '+996555120001')).status, 200)
  now += 30 * 60_000
  t.equal((await send(service, '+996555120002')).status, 200)
  const { body } = await send(service, '+996555120003')
  t.equal(body.code, 'too_many_sends')
  t.equal(body.retry_after, 30 * 60)
  now += 30 * 60_000
  t.equal((await send(service, '+996555120003')).status, 200)
  t.equal((await send(service, '+996555120004')).body.code, 'too_many_sends')
  for (const key of await service.redis.keys('phone-auth:guard:*')) t.ok(await service.redis.ttl(key) > 0)
})

t.test('SMS_GUARD=observe only logs, SMS_GUARD=off does nothing', async (t) => {
  const observed = await testService(t, { env: { ...production, SMS_GUARD_BLOCK_SENDS: '1', SMS_GUARD: 'observe' } })
  for (const phone of ['+996555120001', '+996555120002']) t.equal((await send(observed, phone)).status, 200)
  t.match(trips(observed), [{ mode: 'observe', scope: 'block' }])
  const off = await testService(t, { env: { ...production, SMS_GUARD_BLOCK_SENDS: '1', SMS_GUARD: 'off' } })
  for (const phone of ['+996555120001', '+996555120002']) t.equal((await send(off, phone)).status, 200)
  t.strictSame(await off.redis.keys('phone-auth:guard:*'), [])
})

t.test('SMS_GUARD=observe counts every sent message and logs what enforce would refuse', async (t) => {
  const service = await testService(t, {
    env: { ...production, SMS_GUARD_BLOCK_SENDS: '4', SMS_GUARD_MIN_VERIFIED_PERCENT: '50', SMS_GUARD: 'observe' }
  })
  const phones = Array.from({ length: 10 }, (_, n) => numberOf('+99655512', n))
  for (const phone of phones) t.equal((await send(service, phone)).status, 200)
  for (const phone of phones.slice(0, 3)) t.equal((await service.verify(phone, service.codeOf(phone))).status, 200)
  t.equal(trips(service).length, 6)
  t.equal((await send(service, numberOf('+99655512', 10))).status, 200)
  t.equal(trips(service).length, 7, 'three of ten are verified')
})

t.test('a send is cancelled if the pumping guard fails in any scope', async (t) => {
  const limits = { SMS_GUARD_CLIENT_SENDS: '2', SMS_GUARD_BLOCK_SENDS: '2', SMS_GUARD_MARKET_SENDS: '2' }
  const service = await testService(t, { env: { ...production, ...limits } })
  t.equal((await sendFrom(service, '203.0.113.7', '+996555120001')).status, 200)
  const guards = await service.redis.keys('phone-auth:guard:*')
  t.equal(guards.length, 3)
  const before = await service.redis.keys('phone-auth:code:*')

  for (const key of guards) {
    await service.redis.rename(key, 'guard')
    await service.redis.set(key, 'not a hash')
    for (let tries = 0; tries < 3; tries++) {
      t.equal((await sendFrom(service, '203.0.113.7', '+996555120002')).status, 503)
    }
    await service.redis.rename('guard', key)
  }

  t.strictSame(await service.redis.keys('phone-auth:code:*'), before)
  t.equal(service.sms.length, 1)
  t.equal((await sendFrom(service, '203.0.113.7', '+996555120002')).status, 200)
})

t.test('messages that the provider refuses do not pause a client IP, a block or a market', async (t) => {
  const { SmsRefused } = await import('../../src/messages/index.js')
  const service = await testService(t, {
    env: { ...production, SMS_GUARD_BLOCK_SENDS: '2', SMS_GUARD_MARKET_SENDS: '2', SMS_GUARD_CLIENT_SENDS: '2' },
    overrides: { sms: async () => { throw new SmsRefused() } }
  })
  for (let n = 0; n < 5; n++) {
    t.equal((await sendFrom(service, '203.0.113.7', numberOf('+99655512', n))).body.code, 'sms_failed')
  }
})
