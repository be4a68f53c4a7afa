import { randomBytes } from 'node:crypto'
import { once } from 'node:events'
import fc from 'fast-check'
import { Redis } from 'ioredis'
import t, { type Test } from 'tap'
import { digestCode, deriveCode, newNonce, phoneKey } from '../../../src/auth/codes/code.js'
import { memoryCodeStore } from '../../../src/auth/codes/store.memory.js'
import { redisCodeStore } from '../../../src/auth/codes/store.redis.js'
import {
  dayMs, hourMs, sendsCeiling, type CodeLimits, type CodeStore, type Issued
} from '../../../src/auth/codes/store.js'
import { connect } from '../../../src/redis/connect.js'
import { parseRedisUrl, type RedisTarget } from '../../../src/redis/url.js'
import { startCluster } from '../../helpers/redis-topologies.js'
import { startRedis } from '../../helpers/servers.js'
import { testRedis } from '../../helpers/service.js'

const defaults: CodeLimits = {
  ttlMs: 300_000, resendMs: 60_000, sendsPerHour: 5, sendsPerDay: 10, maxAttempts: 5, guessesPerDay: 50
}
/** Limits that no test of the code itself reaches. */
const many: CodeLimits = { ...defaults, sendsPerHour: 1000, sendsPerDay: 1000 }
const start = Date.UTC(2026, 0, 1)
const minute = 60_000
const newKey = () => randomBytes(16).toString('base64url')
const candidate = (name: string) => ({ nonce: `nonce-${name}`, digest: `digest-${name}`, client: `client-${name}` })

const { redis } = await testRedis(t)
const cluster = connect(parseRedisUrl((await startCluster(t)).url) as RedisTarget, { keyPrefix: '', tls: {} })
t.teardown(() => cluster.disconnect())
await once(cluster, 'ready')
const stores: Record<string, (limits: CodeLimits) => CodeStore> = {
  memory: memoryCodeStore,
  Redis: (limits) => redisCodeStore(redis, limits),
  'a Redis Cluster': (limits) => redisCodeStore(cluster, limits)
}

/** A store with the key of one number. Each call takes the time of its clock. */
function number (store: CodeStore, key = newKey()) {
  return {
    issue: (name: string, now: number) => store.issue(key, candidate(name), now),
    /** An issue that must succeed. */
    async send (name: string, now: number): Promise<Issued> {
      const issued = await store.issue(key, candidate(name), now)
      if (issued.status !== 'issued') throw new Error(`send ${name} was refused: ${issued.status}`)
      return issued
    },
    guess: (name: string, now: number) => store.redeem(key, `digest-${name}`, now),
    /** A guess that must be right. Returns its undo. */
    async redeem (name: string, now: number): Promise<unknown> {
      const redeemed = await store.redeem(key, `digest-${name}`, now)
      if (redeemed.status !== 'right') throw new Error(`the code ${name} was refused: ${redeemed.status}`)
      return redeemed.undo
    },
    cancel: (issued: Issued) => store.cancel(key, issued),
    restore: (undo: unknown) => store.restore(key, undo),
    countVerified: (now: number) => store.countVerified(key, now),
    deleteCode: () => store.deleteCode(key)
  }
}

/** A store with the key of a test number, whose fixed code is "fixed". */
function testNumber (store: CodeStore, key = newKey()) {
  const guess = (name: string, now: number) => store.redeem(key, `digest-${name}`, now, 'digest-fixed')
  return {
    ...number(store, key),
    issue: (name: string, now: number) =>
      store.issue(key, { nonce: `nonce-${name}`, digest: 'digest-fixed' }, now, true),
    guess,
    /** Makes wrong guesses, with a send before each. */
    async miss (times: number, now: number) {
      for (let i = 0; i < times; i++) {
        await store.issue(key, { nonce: `nonce-${i}`, digest: 'digest-fixed' }, now, true)
        await guess('x', now)
      }
    }
  }
}

const wrong = (attemptsRemaining: number) => ({ status: 'wrong', attemptsRemaining })
const none = { status: 'none' }
/** A wrong guess at a test number without a live code. */
const wrongWithoutCode = { status: 'wrong' }
const tooSoon = (retryAfterMs: number) => ({ status: 'too_soon', retryAfterMs })
const tooMany = (retryAfterMs: number) => ({ status: 'too_many', retryAfterMs })

/** The tests that every store must pass. */
function suite (t: Test, open: (limits: CodeLimits) => CodeStore) {
  const one = (limits: Partial<CodeLimits> = {}, base = many) => number(open({ ...base, ...limits }))

  t.test('the first send issues the code of its candidate, which expires after a TTL', async (t) => {
    const { issue, guess } = one()
    t.match(await issue('a', start), { status: 'issued', nonce: 'nonce-a', expiresAt: start + 300_000 })
    t.strictSame(await guess('b', start + 299_999), wrong(4))
    t.strictSame(await guess('a', start + 300_000), none)
  })

  t.test('a code works until the last millisecond of its life', async (t) => {
    const { send, guess } = one()
    await send('a', start)
    t.match(await guess('a', start + 299_999), { status: 'right' })
  })

  t.test('a number without a send has no code', async (t) => {
    t.strictSame(await one().guess('a', start), none)
  })

  t.test('a resend sends the live code for another TTL and keeps its remaining attempts', async (t) => {
    const { send, issue, guess } = one()
    await send('a', start)
    t.strictSame(await guess('x', start), wrong(4))
    t.strictSame(await guess('x', start), wrong(3))
    t.match(await issue('b', start + 2 * minute), { status: 'issued', nonce: 'nonce-a', expiresAt: start + 7 * minute })
    t.strictSame(await guess('b', start + 7 * minute - 1), wrong(2))
    t.match(await guess('a', start + 7 * minute - 1), { status: 'right' })
  })

  t.test('a code expires 600 s after its first send, however often it is sent again', async (t) => {
    const { send, issue, guess } = one()
    await send('a', start)
    await send('b', start + 4 * minute)
    t.match(await issue('c', start + 8 * minute), { nonce: 'nonce-a', expiresAt: start + 10 * minute })
    t.strictSame(await guess('x', start + 10 * minute - 1), wrong(4))
    t.strictSame(await guess('a', start + 10 * minute), none)
  })

  t.test('a resend that would leave the code less than 120 s issues a new code', async (t) => {
    for (const [after, nonce, expiresAt] of [[480_000, 'nonce-a', 600_000], [480_001, 'nonce-c', 780_001]] as const) {
      const { send, issue, guess } = one()
      await send('a', start)
      await send('b', start + 4 * minute)
      t.match(await issue('c', start + after), { nonce, expiresAt: start + expiresAt })
      t.match(await guess(nonce.slice('nonce-'.length), start + after), { status: 'right' })
    }
  })

  t.test('a new code that replaces a live one has all attempts, and the replaced code is wrong', async (t) => {
    const { send, guess } = one()
    await send('a', start)
    await send('b', start + 4 * minute)
    await guess('x', start + 4 * minute)
    await send('c', start + 481_000)
    t.strictSame(await guess('a', start + 481_000), wrong(4))
    t.match(await guess('c', start + 481_000), { status: 'right' })
  })

  t.test('with a TTL below 120 s, a resend that would leave less than the TTL issues a new code', async (t) => {
    for (const [after, nonce] of [[570_000, 'nonce-a'], [570_001, 'nonce-last']] as const) {
      const { send, issue } = one({ ttlMs: 30_000, resendMs: 1000 })
      for (let at = 0; at < 570_000; at += 29_000) await send(at === 0 ? 'a' : 'b', start + at)
      t.match(await issue('last', start + after), { nonce, expiresAt: start + after + 30_000 })
    }
  })

  t.test('a TTL of 600 s never extends a code beyond 600 s after its first send', async (t) => {
    const { send, issue } = one({ ttlMs: 600_000 })
    t.equal((await send('a', start)).expiresAt, start + 600_000)
    t.match(await issue('b', start + 480_000), { nonce: 'nonce-a', expiresAt: start + 600_000 })
    t.match(await issue('c', start + 540_000), { nonce: 'nonce-c', expiresAt: start + 1_140_000 })
  })

  t.test('an expired code is never sent again', async (t) => {
    const { send, issue } = one()
    await send('a', start)
    t.match(await issue('b', start + 300_000), { nonce: 'nonce-b', expiresAt: start + 600_000 })
  })

  t.test('a resend within the cooldown is refused with the remaining time', async (t) => {
    const { send, issue, guess } = one()
    await send('a', start)
    t.strictSame(await issue('b', start), tooSoon(60_000))
    t.strictSame(await issue('b', start + 59_999), tooSoon(1))
    t.match(await issue('b', start + 60_000), { status: 'issued', nonce: 'nonce-a' })
    t.match(await guess('a', start + 60_000), { status: 'right' }, 'the refused sends changed nothing')
  })

  t.test('the cooldown ends when the code is used, exhausted, deleted or expired', async (t) => {
    const ends = {
      used: async ({ guess }: ReturnType<typeof one>) => { await guess('a', start) },
      exhausted: async ({ guess }: ReturnType<typeof one>) => { for (let i = 0; i < 5; i++) await guess('x', start) },
      deleted: async ({ deleteCode }: ReturnType<typeof one>) => { await deleteCode() }
    }
    for (const [end, act] of Object.entries(ends)) {
      const ended = one()
      await ended.send('a', start)
      await act(ended)
      t.match(await ended.issue('b', start), { status: 'issued', nonce: 'nonce-b' }, end)
    }
    const { send, issue } = one({ ttlMs: 20_000 })
    await send('a', start)
    t.strictSame(await issue('b', start + 19_000), tooSoon(1000), 'the cooldown ends with the code')
    t.match(await issue('b', start + 20_000), { status: 'issued', nonce: 'nonce-b' })
  })

  t.test('a restored code has its cooldown again', async (t) => {
    const { send, issue, redeem, restore } = one()
    await send('a', start)
    await restore(await redeem('a', start + 1000))
    t.strictSame(await issue('b', start + 1000), tooSoon(59_000))
    t.match(await issue('b', start + minute), { status: 'issued', nonce: 'nonce-a' })
  })

  t.test('sends of exhausted codes count towards the caps, which refuse the next send', async (t) => {
    const { send, guess, issue } = one({ sendsPerHour: 3 })
    for (let sends = 0; sends < 3; sends++) {
      await send(`a${sends}`, start)
      for (let guesses = 0; guesses < 5; guesses++) await guess('x', start)
    }
    t.strictSame(await issue('b', start), tooMany(hourMs))
  })

  t.test('after the last wrong guess of the day, codes and sends are refused until the day is over', async (t) => {
    const { send, issue, guess } = one({ guessesPerDay: 7 })
    await send('a', start)
    for (const left of [4, 3, 2, 1, 0]) t.strictSame(await guess('x', start + minute), wrong(left))
    await send('b', start + 2 * minute)
    t.strictSame(await guess('x', start + 2 * minute), wrong(1), 'one guess of the day remains')
    t.strictSame(await guess('x', start + 2 * minute), wrong(0))
    t.strictSame(await guess('b', start + 2 * minute), none)
    t.strictSame(await issue('c', start + 2 * minute), tooMany(dayMs - minute),
      'the day begins with the first wrong guess')
    t.strictSame(await issue('c', start + minute + dayMs - 1), tooMany(1))
    t.match(await issue('c', start + minute + dayMs), { status: 'issued', nonce: 'nonce-c' })
    t.strictSame(await guess('x', start + minute + dayMs), wrong(4))
    t.match(await guess('c', start + minute + dayMs), { status: 'right' })
  })

  t.test('neither a login nor a cancel nor a restore clears the wrong guesses of the day', async (t) => {
    const { send, guess, redeem, restore, cancel } = one({ guessesPerDay: 4 })
    await send('a', start)
    t.strictSame(await guess('x', start), wrong(3))
    await redeem('a', start)
    const cancelled = await send('b', start)
    t.strictSame(await guess('x', start), wrong(2))
    await cancel(cancelled)
    await send('c', start)
    t.strictSame(await guess('x', start), wrong(1))
    await restore(await redeem('c', start))
    t.strictSame(await guess('x', start), wrong(0))
    t.strictSame(await guess('c', start), none)
  })

  t.test('a guess without a live code does not count as a wrong guess', async (t) => {
    const { send, guess, redeem } = one({ guessesPerDay: 1 })
    for (let guesses = 0; guesses < 10; guesses++) t.strictSame(await guess('x', start), none)
    await send('a', start)
    t.strictSame(await guess('x', start + 300_000), none)
    await send('b', start + 300_000)
    await redeem('b', start + 300_000)
  })

  t.test('a code that is restored after the last wrong guess of the day does not work', async (t) => {
    const { send, issue, guess, redeem, restore } = one({ guessesPerDay: 1 })
    await send('a', start)
    const undo = await redeem('a', start)
    await send('b', start)
    t.strictSame(await guess('x', start), wrong(0))
    await restore(undo)
    t.strictSame(await guess('a', start), none)
    t.strictSame(await issue('c', start), tooMany(dayMs))
  })

  t.test('the remaining cooldown is at most a whole one, also after the clock is set back', async (t) => {
    const { send, issue } = one()
    await send('a', start)
    t.strictSame(await issue('b', start - hourMs), tooSoon(60_000))
  })

  t.test('the hourly cap counts in the hour that begins with the first send', async (t) => {
    const { send, issue } = one({ sendsPerHour: 3 })
    for (const at of [0, 10, 20]) await send('a', start + at * minute)
    t.strictSame(await issue('b', start + 20.5 * minute), tooSoon(0.5 * minute), 'the cooldown comes before the cap')
    t.strictSame(await issue('b', start + 21 * minute), tooMany(39 * minute))
    t.strictSame(await issue('b', start + hourMs - 1), tooMany(1))
    for (const at of [0, 1, 2]) await send('b', start + hourMs + at * minute)
    t.strictSame(await issue('c', start + hourMs + 3 * minute), tooMany(57 * minute))
  })

  t.test('the daily cap counts in the day that begins with the first send and outlasts the hourly cap', async (t) => {
    const { send, issue } = one({ sendsPerHour: 2, sendsPerDay: 4 })
    for (const at of [0, 1, 60, 61]) await send('a', start + at * minute)
    t.strictSame(await issue('b', start + 62 * minute), tooMany(dayMs - 62 * minute))
    t.strictSame(await issue('b', start + dayMs - 1), tooMany(1))
    t.match(await issue('b', start + dayMs), { status: 'issued' })
  })

  t.test('a send that a cap refuses does not change the live code', async (t) => {
    const { send, issue, guess } = one({ sendsPerHour: 1 })
    await send('a', start)
    t.match(await issue('b', start + minute), { status: 'too_many' })
    t.strictSame(await guess('a', start + 300_000), none)
    const alive = one({ sendsPerHour: 1 })
    await alive.send('a', start)
    await alive.issue('b', start + minute)
    t.match(await alive.guess('a', start + 299_999), { status: 'right' })
  })

  t.test('a login clears the hourly and the daily cap', async (t) => {
    const { send, issue, redeem } = one({ sendsPerHour: 2, sendsPerDay: 2 })
    await send('a', start)
    await send('a', start + minute)
    t.match(await issue('b', start + 2 * minute), { status: 'too_many' })
    await redeem('a', start + 2 * minute)
    await send('c', start + 3 * minute)
    await send('c', start + 4 * minute)
    t.match(await issue('d', start + 5 * minute), { status: 'too_many' })
  })

  t.test('a day has at most fifty sends, however many logins there are', async (t) => {
    const { send, issue, redeem } = one({ sendsPerHour: 100, sendsPerDay: 100 })
    for (let sends = 0; sends < sendsCeiling; sends++) {
      await send('a', start + sends * minute)
      await redeem('a', start + sends * minute)
    }
    t.strictSame(await issue('b', start + 50 * minute), tooMany(dayMs - 50 * minute))
    t.strictSame(await issue('b', start + dayMs - 1), tooMany(1))
    t.match(await issue('b', start + dayMs), { status: 'issued', nonce: 'nonce-b' })
  })

  t.test('wrong guesses count down to 0; after that even the right code is refused', async (t) => {
    const { send, guess, issue } = one()
    await send('a', start)
    for (const left of [4, 3, 2, 1, 0]) t.strictSame(await guess('x', start + 1), wrong(left))
    t.strictSame(await guess('x', start + 1), none)
    t.strictSame(await guess('a', start + 1), none)
    t.match(await issue('b', start + minute), { nonce: 'nonce-b' }, 'the next send issues a new code')
  })

  t.test('with one attempt, the first wrong guess exhausts the code', async (t) => {
    const { send, guess } = one({ maxAttempts: 1 })
    await send('a', start)
    t.strictSame(await guess('x', start), wrong(0))
    t.strictSame(await guess('a', start), none)
  })

  t.test('a right guess after four wrong ones works', async (t) => {
    const { send, guess } = one()
    await send('a', start)
    for (const left of [4, 3, 2, 1]) t.strictSame(await guess('x', start), wrong(left))
    t.match(await guess('a', start), { status: 'right' })
  })

  t.test('a code works once', async (t) => {
    const { send, guess } = one()
    await send('a', start)
    t.match(await guess('a', start), { status: 'right' })
    t.strictSame(await guess('a', start), none)
  })

  t.test('numbers do not affect each other', async (t) => {
    const store = open({ ...many, sendsPerHour: 1 })
    const [first, second] = [number(store), number(store)]
    await first.send('a', start)
    t.match(await second.issue('b', start), { status: 'issued', nonce: 'nonce-b' })
    t.strictSame(await second.guess('a', start), wrong(4))
    await second.deleteCode()
    t.match(await first.guess('a', start), { status: 'right' })
  })

  t.test('a cancelled first send leaves no code, no cooldown and no count', async (t) => {
    const { send, issue, guess, cancel } = one({ sendsPerHour: 1, sendsPerDay: 1 })
    await cancel(await send('a', start))
    t.strictSame(await guess('a', start), none)
    t.match(await issue('b', start), { status: 'issued', nonce: 'nonce-b' })
    t.strictSame(await issue('c', start + minute), tooMany(dayMs - minute), 'the day begins with the second send')
  })

  t.test('cancelling a resend restores the expiry and the cooldown of the code and keeps its attempts', async (t) => {
    const { send, issue, guess, cancel } = one({ sendsPerHour: 2 })
    await send('a', start)
    await guess('x', start)
    const resent = await send('b', start + 2 * minute)
    t.equal(resent.expiresAt, start + 7 * minute)
    await guess('x', start + 2 * minute)
    await cancel(resent)
    t.strictSame(await guess('x', start + 5 * minute - 1), wrong(2), 'guesses after the resend still count')
    t.strictSame(await guess('a', start + 5 * minute), none)
    t.match(await issue('c', start + 2 * minute), { status: 'issued' },
      'the cancelled send has no cooldown and no count')
    t.match(await issue('d', start + 3 * minute), { status: 'too_many' })
  })

  t.test('cancelling a send that replaced a live code makes the replaced code work again', async (t) => {
    const { send, guess, redeem, cancel, restore } = one()
    await send('a', start)
    await send('b', start + 4 * minute)
    await guess('x', start + 4 * minute)
    const replacing = await send('c', start + 481_000)
    t.equal(replacing.nonce, 'nonce-c')
    t.strictSame(await guess('x', start + 481_000), wrong(4))
    await cancel(replacing)
    t.strictSame(await guess('c', start + 481_000), wrong(3), 'the cancelled code is wrong')
    await restore(await redeem('a', start + 539_999))
    t.strictSame(await guess('a', start + 540_000), none)
  })

  t.test('cancelling a send does not change the code and the cooldown of a later send', async (t) => {
    const { send, issue, guess, cancel } = one({ resendMs: 1000, sendsPerHour: 3 })
    const refused = await send('a', start)
    const later = await send('b', start + 1000)
    t.equal(later.nonce, 'nonce-a')
    await cancel(refused)
    t.strictSame(await issue('c', start + 1001), tooSoon(999))
    t.match(await issue('c', start + 2000), { status: 'issued', nonce: 'nonce-a' })
    t.match(await issue('c', start + 3000), { status: 'issued' }, 'the cancelled send does not count')
    t.match(await issue('c', start + 4000), { status: 'too_many' })
    t.match(await guess('a', start + 4000), { status: 'right' })
  })

  t.test('cancelling a send does not change an hour or a day that began later', async (t) => {
    const { send, issue, redeem, cancel } = one({ resendMs: 1000, sendsPerHour: 2, sendsPerDay: 4 })
    await send('a', start)
    const refused = await send('a', start + 1000)
    await redeem('a', start + 1500)
    await send('b', start + 2000)
    await cancel(refused)
    await send('b', start + 3000)
    t.strictSame(await issue('c', start + 4000), tooMany(hourMs - 2000),
      'two sends in the hour that began after the login')

    const overnight = one({ resendMs: 1000, sendsPerDay: 2 })
    await overnight.send('a', start)
    const last = await overnight.send('b', start + dayMs - 1000)
    await overnight.send('b', start + dayMs)
    await overnight.cancel(last)
    await overnight.send('b', start + dayMs + 1000)
    t.strictSame(await overnight.issue('c', start + dayMs + 2000), tooMany(dayMs - 2000), 'two sends in the new day')
  })

  t.test('cancelling a resend whose code was redeemed restores no code', async (t) => {
    const { send, issue, redeem, guess, cancel } = one()
    await send('a', start)
    const resent = await send('b', start + minute)
    await redeem('a', start + minute)
    await cancel(resent)
    t.strictSame(await guess('a', start + minute), none)
    t.match(await issue('c', start + minute), { status: 'issued', nonce: 'nonce-c' },
      'without a code there is no cooldown')
  })

  t.test('cancelling a send whose new code was deleted does not restore the replaced code', async (t) => {
    const { send, guess, deleteCode, cancel } = one()
    await send('a', start)
    await send('b', start + 4 * minute)
    const replacing = await send('c', start + 481_000)
    t.equal(replacing.nonce, 'nonce-c')
    await deleteCode()
    await cancel(replacing)
    t.strictSame(await guess('a', start + 481_000), none)
  })

  t.test('cancelled sends do not count towards the fifty sends of a day', async (t) => {
    const { send, issue, cancel } = one({ sendsPerHour: 100, sendsPerDay: 100 })
    await send('a', start)
    for (let sends = 1; sends < 60; sends++) await cancel(await send('a', start + sends * minute))
    for (let sends = 1; sends < sendsCeiling; sends++) await send('a', start + sends * minute)
    t.match(await issue('b', start + hourMs), { status: 'too_many' })
  })

  t.test('cancelling a send in a store that lost its data does nothing', async (t) => {
    const store = open(many)
    const issued = await number(store).send('a', start)
    const lost = number(store)
    await lost.cancel(issued)
    t.strictSame(await lost.guess('a', start), none)
    t.match(await lost.issue('b', start), { status: 'issued', nonce: 'nonce-b' })
  })

  t.test('a restored code works again, with its remaining attempts and life', async (t) => {
    const { send, guess, redeem, restore, issue } = one()
    await send('a', start)
    await guess('x', start)
    await guess('x', start)
    await restore(await redeem('a', start + minute))
    t.strictSame(await guess('x', start + 5 * minute - 1), wrong(2))
    t.match(await issue('b', start + 4 * minute), { nonce: 'nonce-a', expiresAt: start + 9 * minute },
      'a resend sends it')
    t.match(await issue('c', start + 9 * minute - 1), { nonce: 'nonce-c' }, 'its life still counts from its first send')
  })

  t.test('restoring a code restores the counts of the caps', async (t) => {
    const hourly = one({ sendsPerHour: 2 })
    await hourly.send('a', start)
    await hourly.send('a', start + minute)
    await hourly.restore(await hourly.redeem('a', start + minute))
    t.strictSame(await hourly.issue('b', start + 2 * minute), tooMany(58 * minute))
    const daily = one({ sendsPerDay: 2 })
    await daily.send('a', start)
    await daily.send('a', start + minute)
    await daily.restore(await daily.redeem('a', start + minute))
    t.strictSame(await daily.issue('b', start + 2 * minute), tooMany(dayMs - 2 * minute))
  })

  t.test('restoring a code does not restore the counts of a day that is over', async (t) => {
    const { send, issue, redeem, restore } = one({ sendsPerDay: 2 })
    await send('a', start)
    await send('b', start + dayMs - 2 * minute)
    const undo = await redeem('b', start + dayMs - minute)
    await send('c', start + dayMs)
    await restore(undo)
    t.match(await issue('d', start + dayMs + minute), { status: 'issued' })
    t.match(await issue('d', start + dayMs + 2 * minute), { status: 'too_many' })
  })

  t.test('restoring a code keeps a newer code and adds the counts of both', async (t) => {
    for (const limits of [{ sendsPerHour: 3 }, { sendsPerDay: 3 }]) {
      const { send, issue, guess, redeem, restore } = one(limits)
      await send('a', start)
      await send('a', start + minute)
      const undo = await redeem('a', start + minute)
      await send('b', start + 2 * minute)
      await guess('x', start + 2 * minute)
      await restore(undo)
      t.match(await issue('c', start + 3 * minute), { status: 'too_many' })
      t.strictSame(await guess('a', start + 3 * minute), wrong(3))
      t.match(await guess('b', start + 7 * minute - 1), { status: 'right' })
    }
  })

  t.test('a code can be restored in a store that lost its data', async (t) => {
    const store = open(many)
    const before = number(store)
    await before.send('a', start)
    const undo = await before.redeem('a', start)
    const lost = number(store)
    await lost.restore(undo)
    t.match(await lost.guess('a', start + 299_999), { status: 'right' })
  })

  t.test('a code can be redeemed and restored repeatedly', async (t) => {
    const { send, redeem, restore, guess } = one()
    await send('a', start)
    for (let times = 0; times < 3; times++) await restore(await redeem('a', start))
    t.match(await guess('a', start), { status: 'right' })
  })

  t.test('cancelling a send does not change caps that a login has cleared since', async (t) => {
    for (const limits of [{ sendsPerHour: 2 }, { sendsPerDay: 2 }]) {
      const { send, issue, redeem, cancel } = one({ resendMs: 1000, ...limits })
      await send('a', start)
      const cancelled = await send('a', start + 1000)
      await redeem('a', start + 1000)
      await send('b', start + 1000)
      await cancel(cancelled)
      await send('b', start + 2000)
      t.match(await issue('b', start + 3000), { status: 'too_many' })
    }
  })

  t.test('cancelling a send does not change a code that was sent in the same millisecond', async (t) => {
    const { send, issue, guess, redeem, cancel } = one()
    const cancelled = await send('a', start)
    await redeem('a', start)
    await send('b', start)
    await cancel(cancelled)
    t.strictSame(await issue('c', start), tooSoon(60_000))
    t.match(await guess('b', start), { status: 'right' })
  })

  t.test('deleteCode removes the code and its cooldown; the counts stay', async (t) => {
    const { send, issue, guess, deleteCode } = one({ sendsPerHour: 2, sendsPerDay: 3 })
    await deleteCode()
    await send('a', start)
    await deleteCode()
    t.strictSame(await guess('a', start), none)
    t.match(await issue('b', start + minute), { status: 'issued', nonce: 'nonce-b' })
    t.strictSame(await issue('c', start + 2 * minute), tooMany(58 * minute))
    await send('c', start + hourMs)
    t.strictSame(await issue('d', start + hourMs + minute), tooMany(dayMs - hourMs - minute))
  })

  t.test('of parallel sends one is issued, of right guesses one wins, and of wrong guesses five count', async (t) => {
    const { send, issue, guess } = one()
    const sends = await Promise.all(Array.from({ length: 100 }, (_, i) => issue(`a${i}`, start)))
    t.equal(sends.filter(({ status }) => status === 'issued').length, 1)
    const { nonce } = sends.find(({ status }) => status === 'issued') as Issued
    const right = await Promise.all(Array.from({ length: 100 }, () => guess(nonce.slice('nonce-'.length), start)))
    t.equal(right.filter(({ status }) => status === 'right').length, 1)
    await send('b', start + minute)
    const wrongs = await Promise.all(Array.from({ length: 100 }, () => guess('x', start + minute)))
    t.strictSame(wrongs.slice(0, 6), [wrong(4), wrong(3), wrong(2), wrong(1), wrong(0), none])
    t.equal(wrongs.filter(({ status }) => status === 'none').length, 95)
  })

  t.test('a right guess returns the client group of the last send, also after a cancel or a restore', async (t) => {
    const { send, guess, cancel, restore } = one()
    await send('a', start)
    await cancel(await send('b', start + minute))
    const redeemed = await guess('a', start + minute)
    t.match(redeemed, { status: 'right', client: 'client-a' })
    await restore((redeemed as { undo: unknown }).undo)
    await send('c', start + 2 * minute)
    t.match(await guess('a', start + 2 * minute), { status: 'right', client: 'client-c' })
  })

  t.test('a login counts as verified once in 24 hours, also in parallel and after deleteCode or an undo', async (t) => {
    const { send, redeem, restore, cancel, deleteCode, countVerified } = one()
    await send('a', start)
    const undo = await redeem('a', start)
    const counted = await Promise.all(Array.from({ length: 20 }, () => countVerified(start)))
    t.equal(counted.filter(Boolean).length, 1)
    await restore(undo)
    await cancel(await send('b', start + minute))
    await deleteCode()
    t.equal(await countVerified(start + dayMs - 1), false)
    t.equal(await countVerified(start + dayMs), true)
  })

  const oneTest = (limits: Partial<CodeLimits> = {}) => testNumber(open({ ...defaults, ...limits }))

  t.test('sends to a test number have no cooldown and no caps', async (t) => {
    const { issue, guess } = oneTest({ sendsPerHour: 1, sendsPerDay: 1 })
    for (let sends = 0; sends < 200; sends++) {
      const expiresAt = start + sends + 300_000
      t.match(await issue('a', start + sends), { status: 'issued', nonce: 'nonce-a', expiresAt })
    }
    t.match(await guess('fixed', start + 200), { status: 'right' })
    t.match(await issue('b', start + 200), { status: 'issued', nonce: 'nonce-b' })
  })

  t.test('the code of a test number works once after each send, until it expires', async (t) => {
    const { issue, guess } = oneTest()
    t.strictSame(await guess('fixed', start), none)
    for (let logins = 0; logins < 60; logins++) {
      await issue(String(logins), start)
      t.match(await guess('fixed', start), { status: 'right' })
      t.strictSame(await guess('fixed', start), none)
    }
    await issue('late', start)
    t.strictSame(await guess('fixed', start + 300_000), none)
  })

  t.test('a changed code of a test number works at once, and the previous code is wrong', async (t) => {
    const store = open(defaults)
    const key = newKey()
    await store.issue(key, candidate('old'), start, true)
    t.strictSame(await store.redeem(key, 'digest-old', start, 'digest-new'), wrong(4))
    t.match(await store.redeem(key, 'digest-new', start, 'digest-new'), { status: 'right' })
  })

  t.test('wrong guesses at a test number cost attempts, which a resend does not restore', async (t) => {
    const { issue, guess } = oneTest()
    await issue('a', start)
    t.strictSame(await guess('x', start), wrong(4))
    await issue('b', start)
    for (const left of [3, 2, 1, 0]) t.strictSame(await guess('x', start), wrong(left))
    t.strictSame(await guess('fixed', start), none)
    await issue('c', start)
    t.strictSame(await guess('x', start), wrong(4))
    t.match(await guess('fixed', start), { status: 'right' })
  })

  t.test('after fifty wrong guesses a test number is refused until its day is over', async (t) => {
    const { issue, guess, miss } = oneTest()
    await miss(defaults.guessesPerDay - 1, start)
    await issue('a', start + minute)
    t.match(await guess('fixed', start + minute), { status: 'right' }, 'one wrong guess remains')
    await issue('b', start + minute)
    t.strictSame(await guess('x', start + minute), wrong(0), 'the login did not clear the count')
    t.strictSame(await guess('fixed', start + minute), none)
    t.strictSame(await issue('c', start + minute), tooMany(dayMs - minute))
    t.strictSame(await issue('c', start + dayMs - 1), tooMany(1))
    t.match(await issue('c', start + dayMs), { status: 'issued' })
    t.match(await guess('fixed', start + dayMs), { status: 'right' })
  })

  t.test('wrong guesses at a test number count without a live code, too; right ones do not', async (t) => {
    const { issue, guess } = oneTest()
    for (let guesses = 0; guesses < 100; guesses++) t.strictSame(await guess('fixed', start), none)
    for (let guesses = 1; guesses < defaults.guessesPerDay; guesses++) {
      t.strictSame(await guess('x', start), wrongWithoutCode)
    }
    t.match(await issue('a', start), { status: 'issued' })
    t.strictSame(await guess('x', start + 300_000), wrongWithoutCode)
    t.strictSame(await issue('b', start + 300_000), tooMany(dayMs - 300_000))
  })

  t.test('after a day of wrong guesses a new day begins with the next one', async (t) => {
    const { issue, guess, miss } = oneTest()
    await miss(defaults.guessesPerDay - 1, start)
    await miss(defaults.guessesPerDay - 1, start + dayMs)
    await issue('a', start + dayMs)
    t.match(await guess('fixed', start + dayMs), { status: 'right' })
    for (let guesses = 0; guesses < defaults.guessesPerDay; guesses++) await guess('x', start + 2 * dayMs)
    t.strictSame(await issue('a', start + 3 * dayMs - 1), tooMany(1))
  })

  t.test('a restored code of a test number works again, but not after the last wrong guess of the day', async (t) => {
    const { issue, guess, miss, restore } = oneTest()
    const redeem = async () => {
      await issue('a', start)
      const redeemed = await guess('fixed', start)
      if (redeemed.status !== 'right') throw new Error(redeemed.status)
      return redeemed.undo
    }
    await restore(await redeem())
    t.match(await guess('fixed', start), { status: 'right' })
    const undo = await redeem()
    await miss(defaults.guessesPerDay, start)
    await restore(undo)
    t.strictSame(await guess('fixed', start), none)
    t.strictSame(await guess('x', start), none)
  })

  t.test('of parallel guesses at a test number one right one wins, and fifty wrong ones count', async (t) => {
    const { issue, guess } = oneTest({ maxAttempts: 100 })
    await Promise.all(Array.from({ length: 100 }, (_, i) => issue(String(i), start)))
    const right = await Promise.all(Array.from({ length: 100 }, () => guess('fixed', start)))
    t.equal(right.filter(({ status }) => status === 'right').length, 1)
    await issue('again', start)
    const wrongs = await Promise.all(Array.from({ length: 100 }, () => guess('x', start)))
    t.strictSame(wrongs.map((reply) => reply.status === 'wrong' ? reply.attemptsRemaining : undefined).slice(0, 51),
      [...Array.from({ length: 50 }, (_, i) => 49 - i), undefined])
    t.match(await issue('b', start), { status: 'too_many' })
  })

  t.end()
}

for (const [name, open] of Object.entries(stores)) t.test(`codes in ${name}`, (t) => suite(t, open))

/** One call of a random sequence. `pick` chooses one of the earlier codes, issues or undos. */
type Step =
  | { call: 'wait', ms: number }
  | { call: 'issue' | 'deleteCode' | 'misses' | 'countVerified' }
  | { call: 'guess' | 'cancel' | 'restore', pick: number }

const pick = fc.nat(1000)
const waits = [
  1, 999, 1000, 59_999, 60_000, 119_999, 120_000, 240_000, 299_999, 300_000, hourMs - 60_000, hourMs, dayMs - hourMs
]
const steps: fc.Arbitrary<Step[]> = fc.array(fc.oneof(
  { weight: 4, arbitrary: fc.record({ call: fc.constant('wait' as const), ms: fc.constantFrom(...waits) }) },
  { weight: 4, arbitrary: fc.record({ call: fc.constant('issue' as const) }) },
  { weight: 4, arbitrary: fc.record({ call: fc.constant('guess' as const), pick }) },
  { weight: 1, arbitrary: fc.record({ call: fc.constant('misses' as const) }) },
  { weight: 2, arbitrary: fc.record({ call: fc.constantFrom('cancel' as const, 'restore' as const), pick }) },
  { weight: 1, arbitrary: fc.record({ call: fc.constantFrom('deleteCode' as const, 'countVerified' as const) }) }
), { minLength: 1, maxLength: 60 })

const limits: fc.Arbitrary<CodeLimits> = fc.record({
  ttlMs: fc.constantFrom(2000, 60_000, 120_000, 300_000, 600_000),
  resendMs: fc.constantFrom(1000, 60_000),
  sendsPerHour: fc.integer({ min: 1, max: 5 }),
  sendsPerDay: fc.integer({ min: 1, max: 8 }),
  maxAttempts: fc.integer({ min: 1, max: 5 }),
  guessesPerDay: fc.integer({ min: 1, max: 30 })
})

/** Runs the steps against a store and returns all replies of the store. */
async function run (store: CodeStore, key: string, isTest: boolean, steps: Step[], check: () => Promise<void>) {
  const replies: unknown[] = []
  const issues: Issued[] = []
  const undos: unknown[] = []
  const sent: string[] = []
  let now = start
  let candidates = 0
  const one = isTest ? testNumber(store, key) : number(store, key)
  for (const step of steps) {
    if (step.call === 'wait') now += step.ms
    if (step.call === 'deleteCode') await one.deleteCode()
    if (step.call === 'countVerified') replies.push(await one.countVerified(now))
    if (step.call === 'issue') {
      const reply = await one.issue(String(candidates++), now)
      if (reply.status === 'issued') {
        issues.push(reply)
        sent.push(reply.nonce.slice('nonce-'.length))
      }
      replies.push({ ...reply, undo: null })
    }
    // Enough wrong guesses that a few of these steps exhaust a test number.
    if (step.call === 'misses') for (let i = 0; i < 20; i++) replies.push(await one.guess('x', now))
    if (step.call === 'guess') {
      // Mostly the newest code, otherwise an older one that may be wrong by now, or one that was never sent.
      const name = step.pick % 2 ? sent.at(-1) : sent[step.pick % (sent.length + 1)]
      const reply = await one.guess(isTest && step.pick % 3 === 0 ? 'fixed' : name ?? 'x', now)
      if (reply.status === 'right') undos.push(reply.undo)
      replies.push({ ...reply, undo: null })
    }
    // Each undo runs at most once, as in the service, in any order. No provider refuses a message to a test number.
    if (step.call === 'cancel' && !isTest && issues.length > 0) {
      await one.cancel(issues.splice(step.pick % issues.length, 1)[0] as Issued)
    }
    if (step.call === 'restore' && undos.length > 0) await one.restore(undos.splice(step.pick % undos.length, 1)[0])
    await check()
  }
  return replies
}

t.test('in any order of calls, both stores reply the same and every key has a TTL', async (t) => {
  await fc.assert(fc.asyncProperty(limits, fc.boolean(), steps, async (limits, isTest, steps) => {
    const key = newKey()
    const expected = await run(memoryCodeStore(limits), key, isTest, steps, async () => {})
    const found = await run(redisCodeStore(redis, limits), key, isTest, steps, async () => {
      // -2 means no key, -1 a key without a TTL.
      const ttl = await redis.pttl(`code:${key}`)
      if (ttl === -1 || ttl > dayMs) throw new Error(`the TTL is ${ttl}`)
    })
    t.strictSame(found, expected)
    return t.passing()
  }), { numRuns: 500 })
})

t.test('Redis has one key for a number, which lives as long as its longest field', async (t) => {
  const { redis } = await testRedis(t)
  const store = redisCodeStore(redis, defaults)
  const key = newKey()
  const one = number(store, key)
  await one.send('a', start)
  t.strictSame(await redis.keys('*'), [`code:${key}`])
  const ttl = await redis.pttl(`code:${key}`)
  t.ok(ttl > dayMs - minute && ttl <= dayMs, 'the day of the daily cap')
  await one.redeem('a', start)
  await one.send('b', start + 20 * hourMs)
  const rest = await redis.pttl(`code:${key}`)
  t.ok(rest > 4 * hourMs - minute && rest <= 4 * hourMs, 'the rest of the day')
  await one.send('c', start + dayMs - minute)
  t.ok(await redis.pttl(`code:${key}`) > hourMs - minute, 'an hour that reaches beyond the day')
  await one.cancel(await one.send('d', start + 30 * hourMs))
  t.ok(await redis.pttl(`code:${key}`) > 0)
  t.strictSame(await redis.keys('*'), [`code:${key}`])
})

t.test('Redis has no key of a number whose only send was cancelled', async (t) => {
  const { redis } = await testRedis(t)
  const one = number(redisCodeStore(redis, defaults))
  await one.cancel(await one.send('a', start))
  await one.deleteCode()
  t.strictSame(await redis.keys('*'), [])
})

t.test('a code that is restored after Redis lost its data has a TTL', async (t) => {
  const { redis } = await testRedis(t)
  const key = newKey()
  const one = number(redisCodeStore(redis, defaults), key)
  await one.send('a', start)
  const undo = await one.redeem('a', start)
  await redis.flushdb()
  await one.restore(undo)
  t.ok(await redis.pttl(`code:${key}`) > 300_000)
  await one.restore(await one.redeem('a', start))
  t.ok(await redis.pttl(`code:${key}`) > 300_000)
  await one.redeem('a', start)
  t.strictSame(await redis.keys('*'), [])
})

t.test('Redis stores neither the number nor the code', async (t) => {
  const { redis } = await testRedis(t)
  const secret = newNonce()
  const phone = '+996555123456'
  const nonce = newNonce()
  const code = deriveCode(secret, phone, nonce)
  const key = phoneKey(secret, phone)
  await redisCodeStore(redis, defaults).issue(key, { nonce, digest: digestCode(secret, phone, code) }, start)
  t.strictSame(await redis.keys('*'), [`code:${key}`])
  t.strictSame(await redis.hgetall(`code:${key}`), {
    n: nonce,
    d: digestCode(secret, phone, code),
    a: '0',
    f: String(start),
    x: String(start + 300_000),
    s: String(start),
    h: String(start),
    i: '1',
    b: String(start),
    j: '1',
    t: '1',
    u: ''
  })
})

t.test('a live code takes at most 350 bytes of Redis', async (t) => {
  const server = await startRedis()
  t.teardown(server.stop)
  const redis = new Redis(server.url)
  t.teardown(() => redis.disconnect())
  const store = redisCodeStore(redis, defaults)
  const numbers = 20_000
  const fill = async (from: number, to: number) => {
    for (let i = from; i < to; i += 1000) {
      await Promise.all(Array.from({ length: 1000 }, () =>
        store.issue(newKey(), { nonce: newNonce(), digest: newKey(), client: newKey() }, Date.now())))
    }
  }
  const used = async () => Number(/used_memory:(\d+)/.exec(await redis.info('memory'))?.[1])
  // Warm up first: the script, the connection and their buffers must not count.
  await fill(0, 1000)
  await redis.flushdb()
  const before = await used()
  await fill(0, numbers)
  t.equal(await redis.dbsize(), numbers)
  const bytes = (await used() - before) / numbers
  t.comment(`${bytes.toFixed(0)} bytes a number`)
  t.ok(bytes <= 350, `${bytes} bytes`)

  const one = { key: newKey(), nonce: newNonce(), digest: newKey(), client: newKey() }
  await store.issue(one.key, one, Date.now())
  await store.redeem(one.key, one.digest, Date.now())
  await store.countVerified(one.key, Date.now())
  await store.issue(one.key, one, Date.now())
  await store.redeem(one.key, 'wrong', Date.now())
  t.equal(await redis.hlen(`code:${one.key}`), 16, 'every field is set')
  const most = await redis.memory('USAGE', `code:${one.key}`) as number
  t.comment(`${most} bytes with every field`)
  t.ok(most < 350, `${most} bytes`)
})
