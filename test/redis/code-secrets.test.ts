import { randomBytes } from 'node:crypto'
import t, { type Test } from 'tap'
import type { Overrides } from '../../src/app.js'
import { SmsRefused } from '../../src/messages/index.js'
import { secretPicker } from '../../src/redis/code-secrets.js'
import { wrongCode } from '../helpers/responses.js'
import { newPhone, testDatabase, testRedis, testService } from '../helpers/service.js'

const [first, second] = [randomBytes(32).toString('base64'), randomBytes(32).toString('base64')]

/** Returns the function that starts a replica. All replicas share their stores. */
async function replicas (t: Test, shared: Record<string, string> = {}) {
  const stores = { database: await testDatabase(t), redis: await testRedis(t) }
  return {
    ...stores.redis,
    /** Starts a replica with a CODE_SECRET and, if given, the previous one. */
    start: (current: string, previous?: string, overrides: Overrides = {}) => testService(t, {
      ...stores,
      env: { ...shared, CODE_SECRET: current, ...(previous && { CODE_SECRET_PREVIOUS: previous }) },
      overrides
    })
  }
}

t.test('without a previous secret nothing is asked of the store', async (t) => {
  const pick = secretPicker({ current: first }, async () => { throw new Error('asked') })

  t.equal(await pick((secret) => secret), first)
})

t.test('a code made under the previous secret signs in, and is forgotten without that secret', async (t) => {
  const { start } = await replicas(t)
  const [before, rotated, forgetful] = [await start(first), await start(second, first), await start(second)]
  const [phone, another] = [newPhone(), newPhone()]
  for (const number of [phone, another]) await before.send(number)

  const code = before.codeOf(phone)
  t.equal((await rotated.verify(phone, wrongCode(code))).body.attempts_remaining, 4)
  t.equal((await rotated.send(phone)).body.code, 'resend_too_soon', 'the cooldown counts too')
  t.equal((await rotated.verify(phone, code)).status, 200)
  t.equal((await forgetful.verify(another, before.codeOf(another))).body.code, 'invalid_code')
})

t.test('a resend of a code made under the previous secret sends the same code', async (t) => {
  let now = Date.now()
  const { start } = await replicas(t)
  const overrides = { clock: () => now }
  const [before, rotated] = [await start(first, undefined, overrides), await start(second, first, overrides)]
  const phone = newPhone()
  await before.send(phone)

  now += 61_000
  t.equal((await rotated.send(phone)).status, 200)
  t.equal(rotated.codeOf(phone), before.codeOf(phone))
  t.equal((await rotated.verify(phone, rotated.codeOf(phone))).status, 200)
})

t.test('during a rotation every replica accepts the codes of every other replica', async (t) => {
  const { start } = await replicas(t)
  const [announced, swapped] = [await start(first, second), await start(second, first)]
  for (const [sender, verifier] of [[announced, swapped], [swapped, announced]] as const) {
    const phone = newPhone()
    await sender.send(phone)

    t.equal((await verifier.verify(phone, sender.codeOf(phone))).status, 200)
  }
})

t.test('the deletion of an account removes a code made under either secret', async (t) => {
  const { start } = await replicas(t)
  const [before, rotated] = [await start(first), await start(second, first)]
  const phone = newPhone()
  const { token } = await rotated.login(phone)
  await before.send(phone)

  t.equal((await rotated.request('DELETE', '/api/v1/users/me', { token })).status, 204)
  t.equal((await before.verify(phone, before.codeOf(phone))).body.code, 'invalid_code')
})

t.test('wrong guesses, requests and messages that were counted under the previous secret still count', async (t) => {
  for (const [limit, env, isReached] of [
    ['sends per number', { CODE_SENDS_PER_HOUR: '1' }, 'too_many_sends'],
    ['requests per client IP', { RATE_LIMIT_IP_MAX: '2' }, 'rate_limited'],
    ['messages per market', { SMS_MARKET_DAILY_MAX: '1' }, 'too_many_sends'],
    ['the pumping guard, per client IP', { SMS_GUARD_CLIENT_SENDS: '1' }, 'too_many_sends'],
    ['the pumping guard, per block', { SMS_GUARD_BLOCK_SENDS: '1' }, 'too_many_sends'],
    ['the pumping guard, per market', { SMS_GUARD_MARKET_SENDS: '1' }, 'too_many_sends']
  ] as Array<[string, Record<string, string>, string]>) {
    const { start } = await replicas(t, env)
    const [before, rotated] = [await start(first), await start(second, first)]
    const phone = newPhone()
    await before.send(phone)
    await before.verify(phone, wrongCode(before.codeOf(phone)))
    for (let guesses = 1; guesses < 5 && limit.startsWith('sends'); guesses++) {
      await before.verify(phone, wrongCode(before.codeOf(phone)))
    }

    const next = limit.startsWith('sends') ? phone : limit.endsWith('block') ? `${phone.slice(0, -4)}0000` : newPhone()
    t.equal((await rotated.send(next)).body.code, isReached, limit)
  }
})

t.test('the wrong guesses of a client IP under the previous secret still count', async (t) => {
  const { start } = await replicas(t, { RATE_LIMIT_IP_GUESSES_PER_HOUR: '1' })
  const [before, rotated] = [await start(first), await start(second, first)]
  const phone = newPhone()
  await before.send(phone)
  for (let guesses = 0; guesses < 2; guesses++) await before.verify(phone, wrongCode(before.codeOf(phone)))

  t.equal((await rotated.verify(phone, before.codeOf(phone))).body.code, 'rate_limited')
})

t.test('a refused message is uncounted under either secret', async (t) => {
  const { start, redis } = await replicas(t, { SMS_MARKET_DAILY_MAX: '2' })
  const before = await start(first)
  const rotated = await start(second, first, { sms: async () => { throw new SmsRefused('no') } })
  await before.send(newPhone())
  const kept = async () => Promise.all((await redis.keys('phone-auth:daily:*')).map((key) => redis.hget(key, 'n')))
  t.strictSame(await kept(), ['1'])

  t.equal((await rotated.send(newPhone())).status, 502)
  t.strictSame(await kept(), ['1'])
})

t.test('a service without Redis accepts a previous secret', async (t) => {
  const service = await testService(t, {
    env: { NODE_ENV: 'development', REDIS_URL: '', CODE_SECRET: second, CODE_SECRET_PREVIOUS: first }
  })

  t.ok((await service.login(newPhone())).token)
})
