import { randomBytes } from 'node:crypto'
import t, { type Test } from 'tap'
import { guessLimit, memoryGuessStore, redisGuessStore, type GuessOutcome, type GuessStore } from '../../src/limits/guesses.js'
import { problemOf, wrongCode } from '../helpers/answers.js'
import { newPhone, testDatabase, testRedis, testService, type Service } from '../helpers/service.js'

const start = Date.UTC(2026, 0, 1)
const hourMs = 3_600_000
const newKey = () => randomBytes(16).toString('base64url')

const { redis } = await testRedis(t)
const stores: Record<string, () => GuessStore> = { memory: memoryGuessStore, Redis: () => redisGuessStore(redis) }

/** What all stores promise. */
function suite (t: Test, open: () => GuessStore) {
  const one = (max: number) => {
    const store = open()
    const key = newKey()
    const reserve = (now: number) => store.reserve(key, max, now)
    return {
      reserve,
      settle: (begins: number, outcome: GuessOutcome) => store.settle(key, begins, outcome),
      /** Guesses that each have their outcome before the next one begins. */
      async guess (outcomes: GuessOutcome[], now: number) {
        for (const outcome of outcomes) {
          const reservation = await reserve(now)
          if (reservation.status !== 'pending') throw new Error(`a guess was ${reservation.status}`)
          await store.settle(key, reservation.begins, outcome)
        }
      }
    }
  }

  t.test('wrong guesses that exceed the bound close a client IP until the hour that began with the first is over', async (t) => {
    const { reserve, guess } = one(3)
    await guess(['wrong', 'wrong'], start)
    await guess(['wrong', 'wrong'], start + 1000)

    t.strictSame(await reserve(start + 1000), { status: 'exceeded', retryAfterMs: hourMs - 1000 })
    t.strictSame(await reserve(start + hourMs - 1), { status: 'exceeded', retryAfterMs: 1 })
    t.match(await reserve(start + hourMs), { status: 'pending', begins: start + hourMs })
  })

  t.test('a client IP with as many right guesses as wrong ones stays open, and one more wrong guess closes it', async (t) => {
    const { reserve, guess } = one(2)
    await guess(['right', 'right', 'right', 'right', 'wrong', 'wrong', 'wrong', 'wrong'], start)
    await guess(['wrong'], start)
    t.match(await reserve(start), { status: 'exceeded' })
  })

  t.test('guesses of which nothing was compared do not count', async () => {
    const { guess } = one(1)
    await guess(Array.from({ length: 20 }, () => 'none' as const), start)
  })

  t.test('guesses in parallel cannot pass the bound together: one that might is busy until the others have their outcome', async (t) => {
    const { reserve, settle } = one(3)
    const reservations = await Promise.all(Array.from({ length: 50 }, () => reserve(start)))
    t.equal(reservations.filter(({ status }) => status === 'pending').length, 4)
    t.equal(reservations.filter(({ status }) => status === 'busy').length, 46)
    await settle(start, 'none')
    t.match(await reserve(start), { status: 'pending' })
    for (let guesses = 0; guesses < 4; guesses++) await settle(start, 'wrong')
    t.match(await reserve(start), { status: 'exceeded' })
  })

  t.test('a guess that was lost with its process keeps others waiting for ten seconds at most', async (t) => {
    const { reserve, settle } = one(1)
    for (let guesses = 0; guesses < 2; guesses++) t.match(await reserve(start), { status: 'pending' })
    t.match(await reserve(start + 10_000), { status: 'busy' })
    t.match(await reserve(start + 10_001), { status: 'pending' })
    for (let guesses = 0; guesses < 2; guesses++) await settle(start, 'none')
    t.match(await reserve(start + 10_001), { status: 'pending' }, 'and settled late it raises no bound')
    t.match(await reserve(start + 10_001), { status: 'pending' })
    t.match(await reserve(start + 10_001), { status: 'busy' })
  })

  t.test('a guess of an hour that is over counts in none', async (t) => {
    const { reserve, settle } = one(1)
    await reserve(start)
    await reserve(start + hourMs)
    await settle(start, 'wrong')
    t.match(await reserve(start + hourMs), { status: 'pending' })
    t.match(await reserve(start + hourMs), { status: 'busy' })
  })

  t.test('a clock that was set back makes nobody wait longer than an hour', async (t) => {
    const { reserve, guess } = one(1)
    await guess(['wrong', 'wrong'], start)
    t.strictSame(await reserve(start - hourMs), { status: 'exceeded', retryAfterMs: hourMs })
  })

  t.test('an outcome for a client IP of which nothing is known leaves nothing', async (t) => {
    const { reserve, settle } = one(1)
    await settle(start, 'wrong')
    t.match(await reserve(start), { status: 'pending', begins: start })
  })

  t.test('an IPv6 client counts by its /64, and by its /48 with sixteen times the budget', async (t) => {
    const limit = guessLimit(open(), { current: newKey() }, 1)
    const guess = async (clientIp: string, outcome: GuessOutcome) => {
      const guess = await limit.begin(clientIp, start)
      if (guess.isAdmitted) await guess.settle(outcome)
      return guess.isAdmitted
    }
    for (let net = 0; net < 8; net++) {
      for (let host = 0; host < 2; host++) t.ok(await guess(`2001:db8:1:${net}::${host}`, 'wrong'))
      t.notOk(await guess(`2001:db8:1:${net}::9`, 'wrong'), 'two wrong guesses exceed one')
    }
    t.ok(await guess('2001:db8:1:8::1', 'wrong'), 'the seventeenth of the /48')
    t.notOk(await guess('2001:db8:1:9::1', 'wrong'))
    t.ok(await guess('2001:db8:2::1', 'wrong'), 'another /48')
    t.ok(await guess('192.0.2.1', 'wrong'))
  })

  t.test('of 100 guesses in parallel, all wrong, two are admitted where one is allowed; of 100 without a code all are', async (t) => {
    const limit = guessLimit(open(), { current: newKey() }, 1)
    const parallel = (clientIp: string, outcome: GuessOutcome) => Promise.all(Array.from({ length: 100 }, async () => {
      const guess = await limit.begin(clientIp, start)
      if (guess.isAdmitted) await guess.settle(outcome)
      return guess.isAdmitted
    }))

    t.equal((await parallel('192.0.2.1', 'wrong')).filter(Boolean).length, 2)
    t.equal((await parallel('192.0.2.2', 'none')).filter(Boolean).length, 100)
  })

  t.test('a guess does not wait for ever for others that stay pending', async (t) => {
    const limit = guessLimit(open(), { current: newKey() }, 1)
    for (let guesses = 0; guesses < 2; guesses++) t.match(await limit.begin('192.0.2.1', start), { isAdmitted: true })
    t.match(await limit.begin('192.0.2.1', start), { isAdmitted: false, retryAfterMs: 100 })
  })

  t.end()
}

for (const [name, open] of Object.entries(stores)) t.test(`guesses in ${name}`, (t) => suite(t, open))

/** Guesses of one client IP. */
const verifyFrom = (service: Service, clientIp: string, phone: string, code: string) => service.request('POST', '/auth/verify-code', {
  body: { phone, verification_code: code }, headers: { 'x-forwarded-for': clientIp }
})

t.test('a client IP that guesses at known numbers gets 429 once its wrong guesses exceed the bound, and nothing is compared', async (t) => {
  const service = await testService(t, { env: { RATE_LIMIT_IP_GUESSES_PER_HOUR: '6', TRUST_PROXY: '127.0.0.1' } })
  const phones = Array.from({ length: 3 }, () => newPhone())
  for (const phone of phones) await service.send(phone)
  const guess = (n: number) => {
    const phone = phones[n % 3] as string
    return verifyFrom(service, '192.0.2.1', phone, wrongCode(service.codeOf(phone)))
  }
  for (let n = 0; n < 7; n++) t.match(await guess(n), { status: 400, body: { code: 'invalid_code', attempts_remaining: 4 - Math.floor(n / 3) } })

  const [phone] = phones as [string]
  const refused = await verifyFrom(service, '192.0.2.1', phone, service.codeOf(phone))
  t.ok(refused.body.retry_after > 3500 && refused.body.retry_after <= 3600)
  t.strictSame(...problemOf(refused, 429, 'Too Many Requests', 'rate_limited', { retry_after: refused.body.retry_after }))
  t.equal(refused.headers.get('retry-after'), String(refused.body.retry_after))
  t.match(service.log.map((line) => JSON.parse(line)).find(({ event }) => event === 'limit_hit'), { limit: 'guesses', client: '192.0.2.1' })
  t.match(await verifyFrom(service, '192.0.2.2', phone, wrongCode(service.codeOf(phone))), { body: { attempts_remaining: 1 } }, 'what was refused cost nothing')
  t.equal((await verifyFrom(service, '192.0.2.2', phone, service.codeOf(phone))).status, 200, 'another client IP signs in')
})

t.test('a client IP that thousands share stays open while its right guesses are as many as its wrong ones', async (t) => {
  const service = await testService(t, { env: { RATE_LIMIT_IP_GUESSES_PER_HOUR: '2' } })
  const wrong = async (phone: string) => service.verify(phone, wrongCode(service.codeOf(phone)))
  for (let people = 0; people < 5; people++) {
    const phone = newPhone()
    await service.login(phone)
    await service.send(phone)
    t.equal((await wrong(phone)).status, 400)
  }
  const phone = newPhone()
  await service.send(phone)
  t.equal((await wrong(phone)).status, 400)
  t.equal((await wrong(phone)).body.code, 'rate_limited')
})

t.test('of 100 wrong guesses in parallel at 50 numbers no more are compared than the bound allows, on two replicas', async (t) => {
  const env = { RATE_LIMIT_IP_GUESSES_PER_HOUR: '9', LOG_LEVEL: 'info' }
  const first = await testService(t, { env })
  const second = await testService(t, {
    database: first.database, redis: { url: first.env.REDIS_URL as string, redis: first.redis }, env: first.env
  })
  const phones = Array.from({ length: 50 }, () => newPhone())
  for (const phone of phones) await first.send(phone)
  const codes = phones.map((phone) => first.codeOf(phone))

  const answers = await Promise.all(Array.from({ length: 100 }, (_, n) =>
    (n % 2 ? first : second).verify(phones[n % 50] as string, wrongCode(codes[n % 50] as string))))
  t.equal(answers.filter(({ body }) => body.attempts_remaining !== undefined).length, 10)
  t.strictSame(new Set(answers.map(({ body }) => body.code)), new Set(['invalid_code', 'rate_limited']))
})

t.test('guesses without a live code use up no budget, however many come at once', async (t) => {
  const service = await testService(t, { env: { RATE_LIMIT_IP_GUESSES_PER_HOUR: '5' } })
  const answers = await Promise.all(Array.from({ length: 100 }, () => service.verify(newPhone(), '123456')))
  t.ok(answers.every(({ status }) => status === 400))
  await service.login(newPhone())
})

t.test('the fixed code of a test number buys no further wrong guesses', async (t) => {
  const phone = '+13125550100'
  const service = await testService(t, { env: { RATE_LIMIT_IP_GUESSES_PER_HOUR: '1', TEST_PHONES: `${phone}=480513` } })
  for (let logins = 0; logins < 5; logins++) {
    await service.send(phone)
    t.equal((await service.verify(phone, '480513')).status, 200)
  }
  for (let guesses = 0; guesses < 2; guesses++) t.equal((await service.verify(phone, '111111')).status, 400, 'it counts without a live code')
  t.equal((await service.verify(phone, '111111')).body.code, 'rate_limited')
})

t.test('Redis shows no client IP, and every count of guesses ends', async (t) => {
  const service = await testService(t)
  await service.verify(newPhone(), '123456')
  const keys = await service.redis.keys('phone-auth:guesses:*')
  t.equal(keys.length, 1)
  t.notMatch(keys.join(), /127/)
  const ttl = await service.redis.ttl(keys[0] as string)
  t.ok(ttl > 3590 && ttl <= 3600)
})

t.test('npm run dev limits guesses too', async (t) => {
  const { url } = await testDatabase(t)
  const service = await testService(t, { env: { NODE_ENV: 'development', DATABASE_URL: url, REDIS_URL: '', RATE_LIMIT_IP_GUESSES_PER_HOUR: '1' } })
  const phone = newPhone()
  await service.send(phone)
  for (let guesses = 0; guesses < 2; guesses++) t.equal((await service.verify(phone, wrongCode(service.codeOf(phone)))).status, 400)
  t.equal((await service.verify(phone, service.codeOf(phone))).body.code, 'rate_limited')
})

t.test('a wrong code is logged with the user id of its number, and without PostgreSQL without one', async (t) => {
  const service = await testService(t)
  const [known, unknown] = [newPhone(), newPhone()]
  const { user } = await service.login(known)
  for (const phone of [known, unknown]) {
    await service.send(phone)
    t.equal((await service.verify(phone, wrongCode(service.codeOf(phone)))).body.attempts_remaining, 4)
  }
  await service.sql('ALTER TABLE users RENAME TO elsewhere')
  t.equal((await service.verify(known, wrongCode(service.codeOf(known)))).body.attempts_remaining, 3)
  const lines = service.log.map((line) => JSON.parse(line)).filter(({ event }) => event === 'wrong_code')
  t.strictSame(lines.map(({ user_id: id }) => id), [user.id, undefined, undefined])
})
