import { setTimeout as delay } from 'node:timers/promises'
import { addressGroup, wideAddressGroup, wideFactor } from '../http/client-ip.js'
import { keyedDigest } from '../redis/keyed-digest.js'
import type { Redis } from '../redis/connect.js'
import { replyOf, redisScript } from '../redis/script.js'
import { secretPicker, type CodeSecrets } from '../redis/code-secrets.js'

const hourMs = 3_600_000
/** No guess takes this long: a guess that is still pending then was lost with its process. */
const maxPendingMs = 10_000
/** How often and how long a guess waits for pending guesses of its client IP: about 1.5 s in all. */
const maxWaits = 30
const maxWaitMs = 100

/** The outcome of a guess. `none`: the guess was not compared. */
export type GuessOutcome = 'right' | 'wrong' | 'none'

type Reservation =
  { status: 'pending', begins: number } | { status: 'busy' } | { status: 'exceeded', retryAfterMs: number }

/** Guesses per client IP, in the hour that begins with the first. Each call is atomic. `now` is in milliseconds. */
export interface GuessStore {
  /** Whether the store counts guesses under a key. */
  has (key: string): Promise<boolean>
  /**
   * Counts a guess as pending. Returns `exceeded` if the wrong guesses exceed both `max` and the right ones. Returns
   * `busy` if they would, should all pending guesses be wrong: so parallel guesses cannot exceed the limit together.
   */
  reserve (key: string, max: number, now: number): Promise<Reservation>
  /** Counts the outcome of a pending guess, unless the hour that began at `begins` is over. */
  settle (key: string, begins: number, outcome: GuessOutcome): Promise<void>
}

/*
 * Race: parallel guesses must not exceed the limit together. One hash per client IP: b hour begins, w wrong guesses,
 * r right guesses, p pending guesses, l last guess began.
 */
const reserve = `
local max, now = tonumber(ARGV[1]), tonumber(ARGV[2])
local stored = redis.call('HMGET', KEYS[1], 'b', 'w', 'r', 'p', 'l')
for i = 1, 5 do stored[i] = tonumber(stored[i] or 0) end
local begins, wrong, right, pending, last = unpack(stored)
if now >= begins + ${hourMs} then
  begins, wrong, right, pending = now, 0, 0, 0
  redis.call('HSET', KEYS[1], 'b', now, 'w', 0, 'r', 0)
  redis.call('PEXPIRE', KEYS[1], ${hourMs})
end
if wrong > math.max(max, right) then return {'exceeded', math.min(begins + ${hourMs} - now, ${hourMs})} end
if now > last + ${maxPendingMs} then pending = 0 end
if wrong + pending > math.max(max, right) then return {'busy'} end
redis.call('HSET', KEYS[1], 'p', pending + 1, 'l', now)
return {'pending', tostring(begins)}
`

const settle = `
local begins, pending = unpack(redis.call('HMGET', KEYS[1], 'b', 'p'))
if begins ~= ARGV[1] then return end
if tonumber(pending) > 0 then redis.call('HINCRBY', KEYS[1], 'p', -1) end
if ARGV[2] == 'wrong' then redis.call('HINCRBY', KEYS[1], 'w', 1) end
if ARGV[2] == 'right' then redis.call('HINCRBY', KEYS[1], 'r', 1) end
`

/** Counts in Redis, shared by all replicas. Throws unavailable when Redis does not respond. */
export function redisGuessStore (redis: Redis): GuessStore {
  const scripts = {
    reserve: redisScript<[Reservation['status'], string | number]>(redis, 'guessReserve', reserve),
    settle: redisScript<null>(redis, 'guessSettle', settle)
  }
  return {
    has: async (key) => await replyOf(redis.exists(`guesses:${key}`)) > 0,
    async reserve (key, max, now) {
      const [status, value] = await scripts.reserve(`guesses:${key}`, max, now)
      if (status === 'pending') return { status, begins: Number(value) }
      return status === 'busy' ? { status } : { status, retryAfterMs: Number(value) }
    },
    async settle (key, begins, outcome) {
      await scripts.settle(`guesses:${key}`, begins, outcome)
    }
  }
}

interface Hour { begins: number, wrong: number, right: number, none: number, pending: number, last: number }

/** Counts in process memory, for development. Behaves like the Redis store, and both pass the same tests. */
export function memoryGuessStore (): GuessStore {
  const hours = new Map<string, Hour>()
  return {
    has: async (key) => hours.has(key),
    async reserve (key, max, now) {
      let hour = hours.get(key)
      if (!hour || now >= hour.begins + hourMs) {
        hour = { begins: now, wrong: 0, right: 0, none: 0, pending: 0, last: now }
        hours.set(key, hour)
      }
      const limit = Math.max(max, hour.right)
      if (hour.wrong > limit) return { status: 'exceeded', retryAfterMs: Math.min(hour.begins + hourMs - now, hourMs) }
      if (now > hour.last + maxPendingMs) hour.pending = 0
      if (hour.wrong + hour.pending > limit) return { status: 'busy' }
      hour.pending++
      hour.last = now
      return { status: 'pending', begins: hour.begins }
    },
    async settle (key, begins, outcome) {
      const hour = hours.get(key)
      if (hour?.begins !== begins) return
      hour.pending = Math.max(hour.pending - 1, 0)
      hour[outcome]++
    }
  }
}

export type GuessLimit = ReturnType<typeof guessLimit>

/**
 * The limit on wrong guesses per client IP, for all numbers together (CONTRACT, section 4): per IPv4 address or IPv6
 * /64, with a larger budget per /48 on top.
 */
export function guessLimit (store: GuessStore, secrets: CodeSecrets, maxPerHour: number) {
  const pickSecret = secretPicker(secrets, store.has)
  async function budgetOf (group: string, budget: number) {
    const keyOf = (secret: string) => keyedDigest(secret, 'guesses', group)
    return { key: keyOf(await pickSecret(keyOf)), max: budget }
  }

  function budgetsOf (clientIp: string) {
    const wide = wideAddressGroup(clientIp)
    const budget = budgetOf(addressGroup(clientIp), maxPerHour)
    return Promise.all([budget, ...(wide ? [budgetOf(wide, maxPerHour * wideFactor)] : [])])
  }

  return {
    /**
     * Admits a guess of `clientIp` before its code is compared, or returns the milliseconds until the next try. Waits
     * for parallel guesses whose outcome decides. `settle` counts the outcome and never rejects: a guess that cannot be
     * settled stays pending and counts as a wrong one.
     */
    async begin (clientIp: string, now: number) {
      const budgets = await budgetsOf(clientIp)
      for (let waits = 0; waits < maxWaits; waits++) {
        const reservations = await Promise.all(budgets.map(({ key, max }) => store.reserve(key, max, now)))
        const settle = (outcome: GuessOutcome) => Promise.allSettled(budgets.map(async ({ key }, i) => {
          const reservation = reservations[i] as Reservation
          if (reservation.status === 'pending') await store.settle(key, reservation.begins, outcome)
        }))
        if (reservations.every(({ status }) => status === 'pending')) return { isAdmitted: true as const, settle }
        // A guess that one budget refuses must not use up the other.
        await settle('none')
        const exceeded = reservations.find(({ status }) => status === 'exceeded')
        if (exceeded?.status === 'exceeded') return { isAdmitted: false as const, retryAfterMs: exceeded.retryAfterMs }
        // A random wait: guesses that wait equally long would collide again.
        await delay(Math.random() * maxWaitMs)
      }
      return { isAdmitted: false as const, retryAfterMs: maxWaitMs }
    }
  }
}
