import { randomBytes } from 'node:crypto'
import t, { type Test } from 'tap'
import {
  guessLimit, memoryGuessStore, redisGuessStore, type GuessOutcome, type GuessStore
} from '../../src/limits/guesses.js'
import { problemOf, wrongCode } from '../helpers/responses.js'
import { newPhone, testDatabase, testRedis, testService, type Service } from '../helpers/service.js'

const start = Date.UTC(2026, 0, 1)
const hourMs = 3_600_000
const newKey = () => randomBytes(16).toString('base64url')

const { redis } = await testRedis(t)
const stores: Record<string, () => GuessStore> = { memory: memoryGuessStore, Redis: () => redisGuessStore(redis) }

/** The tests that every store must pass. */
function suite (t: Test, open: () => GuessStore) {
  const one = (max: number) => {
    const store = open()
    const key = newKey()
    const reserve = (now: number) => store.reserve(key, max, now)
    return {
      reserve,
      settle: (begins: number, outcome: GuessOutcome) => store.settle(key, begins, outcome),
      /** Makes guesses, each with its outcome before the next one begins. */
      async guess (outcomes: GuessOutcome[], now: number) {
        for (const outcome of outcomes) {
          const reservation = await reserve(now)
          if (reservation.status !== 'pending') throw new Error(`a guess was ${reservation.status}`)
          await store.settle(key, reservation.begins, outcome)
        }
      }
    }
  }

  t.test('wrong guesses above the limit block a client IP until the hour of the first one is over', async (t) => {
    const { reserve, guess } = one(3)
    await guess(['wrong', 'wrong'], start)
    await guess(['wrong', 'wrong'], start + 1000)

    t.strictSame(await reserve(start + 1000), { status: 'exceeded', retryAfterMs: hourMs - 1000 })
    t.strictSame(await reserve(start + hourMs - 1), { status: 'exceeded', retryAfterMs: 1 })
    t.match(await reserve(start + hourMs), { status: 'pending', begins: start + hourMs })
  })

  t.test('a client IP with as many right as wrong guesses is admitted; one more wrong guess blocks it', async (t) => {
    const { reserve, guess } = one(2)
    await guess(['right', 'right', 'right', 'right', 'wrong', 'wrong', 'wrong', 'wrong'], start)
    await guess(['wrong'], start)
    t.match(await reserve(start), { status: 'exceeded' })
  })

  t.test('guesses that were not compared do not count', async () => {
    const { guess } = one(1)
    await guess(Array.from({ length: 20 }, () => 'none' as const), start)
  })

  t.test('parallel guesses cannot exceed the limit together: one that might is busy', async (t) => {
    const { reserve, settle } = one(3)
    const reservations = await Promise.all(Array.from({ length: 50 }, () => reserve(start)))
    t.equal(reservations.filter(({ status }) => status === 'pending').length, 4)
    t.equal(reservations.filter(({ status }) => status === 'busy').length, 46)
    await settle(start, 'none')
    t.match(await reserve(start), { status: 'pending' })
    for (let guesses = 0; guesses < 4; guesses++) await settle(start, 'wrong')
    t.match(await reserve(start), { status: 'exceeded' })
  })

  t.test('a guess that was lost with its process delays others for at most ten seconds', async (t) => {
    const { reserve, settle } = one(1)
    for (let guesses = 0; guesses < 2; guesses++) t.match(await reserve(start), { status: 'pending' })
    t.match(await reserve(start + 10_000), { status: 'busy' })
    t.match(await reserve(start + 10_001), { status: 'pending' })
    for (let guesses = 0; guesses < 2; guesses++) await settle(start, 'none')
    t.match(await reserve(start + 10_001), { status: 'pending' }, 'a late outcome does not raise the limit')
    t.match(await reserve(start + 10_001), { status: 'pending' })
    t.match(await reserve(start + 10_001), { status: 'busy' })
  })

  t.test('the outcome of a guess counts only in its own hour', async (t) => {
    const { reserve, settle } = one(1)
    await reserve(start)
    await reserve(start + hourMs)
    await settle(start, 'wrong')
    t.match(await reserve(start + hourMs), { status: 'pending' })
    t.match(await reserve(start + hourMs), { status: 'busy' })
  })

  t.test('after the clock is set back, retryAfterMs is at most an hour', async (t) => {
    const { reserve, guess } = one(1)
    await guess(['wrong', 'wrong'], start)
    t.strictSame(await reserve(start - hourMs), { status: 'exceeded', retryAfterMs: hourMs })
  })

  t.test('an outcome for an unknown client IP stores nothing', async (t) => {
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
      t.notOk(await guess(`2001:db8:1:${net}::9`, 'wrong'), 'two wrong guesses exceed a limit of one')
    }
    t.ok(await guess('2001:db8:1:8::1', 'wrong'), 'the 17th wrong guess of the /48')
    t.notOk(await guess('2001:db8:1:9::1', 'wrong'))
    t.ok(await guess('2001:db8:2::1', 'wrong'), 'another /48')
    t.ok(await guess('192.0.2.1', 'wrong'))
  })

  t.test('a limit of one admits two of 100 parallel wrong guesses, and all of 100 without a code', async (t) => {
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

/** A guess from a client IP. */
const verifyFrom = (service: Service, clientIp: string, phone: string, code: string) =>
  service.request('POST', '/auth/verify-code', {
    body: { phone, verification_code: code }, headers: { 'x-forwarded-for': clientIp }
  })

t.test('a client IP above the limit of wrong guesses gets 429, and its code is not compared', async (t) => {
  const service = await testService(t, { env: { RATE_LIMIT_IP_GUESSES_PER_HOUR: '6', TRUST_PROXY: '127.0.0.1' } })
  const phones = Array.from({ length: 3 }, () => newPhone())
  for (const phone of phones) await service.send(phone)
  const guess = (n: number) => {
    const phone = phones[n % 3] as string
    return verifyFrom(service, '192.0.2.1', phone, wrongCode(service.codeOf(phone)))
  }
  for (let n = 0; n < 7; n++) {
    t.match(await guess(n), { status: 400, body: { code: 'invalid_code', attempts_remaining: 4 - Math.floor(n / 3) } })
  }

  const [phone] = phones as [string]
  const refused = await verifyFrom(service, '192.0.2.1', phone, service.codeOf(phone))
  t.ok(refused.body.retry_after > 3500 && refused.body.retry_after <= 3600)
  t.strictSame(...problemOf(refused, 429, 'Too Many Requests', 'rate_limited',
    { retry_after: refused.body.retry_after }))
  t.equal(refused.headers.get('retry-after'), String(refused.body.retry_after))
  t.match(service.log.map((line) => JSON.parse(line)).find(({ event }) => event === 'limit_hit'),
    { limit: 'guesses', client: '192.0.2.1' })
  t.match(await verifyFrom(service, '192.0.2.2', phone, wrongCode(service.codeOf(phone))),
    { body: { attempts_remaining: 1 } }, 'the refused guess cost no attempt')
  t.equal((await verifyFrom(service, '192.0.2.2', phone, service.codeOf(phone))).status, 200,
    'another client IP signs in')
})

t.test('a shared client IP is admitted while it has at least as many right as wrong guesses', async (t) => {
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

t.test('of 100 parallel wrong guesses at 50 numbers, two replicas compare only those within the limit', async (t) => {
  const env = { RATE_LIMIT_IP_GUESSES_PER_HOUR: '9', LOG_LEVEL: 'info' }
  const first = await testService(t, { env })
  const second = await testService(t, {
    database: first.database, redis: { url: first.env.REDIS_URL as string, redis: first.redis }, env: first.env
  })
  const phones = Array.from({ length: 50 }, () => newPhone())
  for (const phone of phones) await first.send(phone)
  const codes = phones.map((phone) => first.codeOf(phone))

  const responses = await Promise.all(Array.from({ length: 100 }, (_, n) =>
    (n % 2 ? first : second).verify(phones[n % 50] as string, wrongCode(codes[n % 50] as string))))
  t.equal(responses.filter(({ body }) => body.attempts_remaining !== undefined).length, 10)
  t.strictSame(new Set(responses.map(({ body }) => body.code)), new Set(['invalid_code', 'rate_limited']))
})

t.test('guesses without a live code use no budget, however many there are at once', async (t) => {
  const service = await testService(t, { env: { RATE_LIMIT_IP_GUESSES_PER_HOUR: '5' } })
  const responses = await Promise.all(Array.from({ length: 100 }, () => service.verify(newPhone(), '123456')))
  t.ok(responses.every(({ status }) => status === 400))
  await service.login(newPhone())
})

t.test('the fixed code of a test number does not allow more wrong guesses', async (t) => {
  const phone = '+13125550100'
  const service = await testService(t, { env: { RATE_LIMIT_IP_GUESSES_PER_HOUR: '1', TEST_PHONES: `${phone}=480513` } })
  for (let logins = 0; logins < 5; logins++) {
    await service.send(phone)
    t.equal((await service.verify(phone, '480513')).status, 200)
  }
  for (let guesses = 0; guesses < 2; guesses++) {
    t.equal((await service.verify(phone, '111111')).status, 400, 'the guess counts without a live code')
  }
  t.equal((await service.verify(phone, '111111')).body.code, 'rate_limited')
})

t.test('Redis contains no client IP, and every count of guesses has a TTL', async (t) => {
  const service = await testService(t)
  await service.verify(newPhone(), '123456')
  const keys = await service.redis.keys('phone-auth:guesses:*')
  t.equal(keys.length, 1)
  t.notMatch(keys.join(), /127/)
  const ttl = await service.redis.ttl(keys[0] as string)
  t.ok(ttl > 3590 && ttl <= 3600)
})

t.test('in development without Redis, guesses are limited, too', async (t) => {
  const { url } = await testDatabase(t)
  const service = await testService(t,
    { env: { NODE_ENV: 'development', DATABASE_URL: url, REDIS_URL: '', RATE_LIMIT_IP_GUESSES_PER_HOUR: '1' } })
  const phone = newPhone()
  await service.send(phone)
  for (let guesses = 0; guesses < 2; guesses++) {
    t.equal((await service.verify(phone, wrongCode(service.codeOf(phone)))).status, 400)
  }
  t.equal((await service.verify(phone, service.codeOf(phone))).body.code, 'rate_limited')
})

t.test('a wrong code is logged with the user id of its number; without PostgreSQL, without it', async (t) => {
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
