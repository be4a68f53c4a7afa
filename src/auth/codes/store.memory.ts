import { dayMs, hourMs, maxLifeMs, minLeftMs, sendsCeiling, type CodeLimits, type CodeStore } from './store.js'

interface Code {
  nonce: string
  digest: string
  client: string
  attempts: number
  firstSent: number
  sentAt: number
  expiresAt: number
}
interface Window { begins: number, count: number }
interface Entry {
  code?: Code | undefined
  hour?: Window | undefined
  /** A login clears `count`, but not `total`. */
  day?: Window & { total: number } | undefined
  guesses?: Window
  /** How many logins have cleared the caps. */
  logins: number
  /** When a login last counted as verified. */
  verifiedAt?: number
}

const open = <T extends Window>(window: T | undefined, lengthMs: number, now: number) =>
  window && now < window.begins + lengthMs ? window : undefined

const isLive = (code: Code | undefined, now: number): code is Code => code !== undefined && code.expiresAt > now

/**
 * Codes in process memory, for development: no other process sees them. The store behaves like the one in Redis, and
 * both pass the same tests. An expired code or window is dropped when its number is used again.
 */
export function memoryCodeStore (limits: CodeLimits): CodeStore {
  const { ttlMs, resendMs, sendsPerHour, sendsPerDay, maxAttempts, guessesPerDay } = limits
  const entries = new Map<string, Entry>()
  const entryOf = (key: string) => {
    const entry = entries.get(key) ?? { logins: 0 }
    entries.set(key, entry)
    return entry
  }

  /** Counts a send and returns 0. If a cap refuses the send, returns the milliseconds until the cap allows one. */
  function countSend (entry: Entry, now: number) {
    const hour = open(entry.hour, hourMs, now) ?? { begins: now, count: 0 }
    const day = open(entry.day, dayMs, now) ?? { begins: now, count: 0, total: 0 }
    if (day.count >= sendsPerDay || day.total >= sendsCeiling) return day.begins + dayMs - now
    if (hour.count >= sendsPerHour) return hour.begins + hourMs - now
    hour.count++
    day.count++
    day.total++
    Object.assign(entry, { hour, day })
    return 0
  }

  return {
    has: async (key) => entries.has(key),

    async issue (key, { client = '', ...candidate }, now, isTest = false) {
      const entry = entryOf(key)
      const guesses = open(entry.guesses, dayMs, now)
      if (guesses && guesses.count >= guessesPerDay) {
        return { status: 'too_many', retryAfterMs: guesses.begins + dayMs - now }
      }
      const live = isLive(entry.code, now) ? entry.code : undefined
      const cooldown = live && !isTest ? Math.min(live.sentAt + resendMs, live.expiresAt) - now : 0
      if (cooldown > 0) return { status: 'too_soon', retryAfterMs: Math.min(cooldown, resendMs) }
      const before = { code: entry.code, logins: entry.logins }
      const retryAfterMs = isTest ? 0 : countSend(entry, now)
      if (retryAfterMs > 0) return { status: 'too_many', retryAfterMs }

      const expiresAt = Math.min(now + ttlMs, (live?.firstSent ?? 0) + maxLifeMs)
      entry.code = live && expiresAt - now >= Math.min(minLeftMs, ttlMs)
        ? { ...live, client, sentAt: now, expiresAt }
        : { ...candidate, client, attempts: 0, firstSent: now, sentAt: now, expiresAt: now + ttlMs }
      return { status: 'issued', nonce: entry.code.nonce, expiresAt: entry.code.expiresAt, undo: { before, now } }
    },

    async cancel (key, { nonce, undo }) {
      const entry = entryOf(key)
      const { before, now } = undo as { before: Entry, now: number }
      const { hour, day, code } = entry
      if (entry.logins === before.logins) {
        if (hour && hour.begins <= now && --hour.count === 0) entry.hour = undefined
        if (day && day.begins <= now) day.count = Math.max(day.count - 1, 0)
      }
      if (day && day.begins <= now && --day.total === 0) entry.day = undefined
      if (code?.nonce !== nonce || code.sentAt !== now) return
      entry.code = before.code?.nonce === nonce ? { ...before.code, attempts: code.attempts } : before.code
    },

    async redeem (key, digest, now, testDigest) {
      const entry = entryOf(key)
      const code = isLive(entry.code, now) ? entry.code : undefined
      const guesses = open(entry.guesses, dayMs, now) ?? { begins: now, count: 0 }
      const expected = testDigest ?? code?.digest
      if (guesses.count >= guessesPerDay || expected === undefined) return { status: 'none' }
      if (digest !== expected) {
        guesses.count++
        entry.guesses = guesses
        if (!code) return { status: 'wrong' }
        const attemptsRemaining = Math.max(Math.min(guessesPerDay - guesses.count, maxAttempts - ++code.attempts), 0)
        if (attemptsRemaining === 0) entry.code = undefined
        return { status: 'wrong', attemptsRemaining }
      }
      if (!code) return { status: 'none' }
      const undo = { ...entry, day: entry.day && { ...entry.day } }
      entry.code = undefined
      entry.hour = undefined
      if (entry.day) {
        entry.day.count = 0
        entry.logins++
      }
      return { status: 'right', client: code.client, undo }
    },

    async restore (key, undo) {
      const entry = entryOf(key)
      const { code, hour, day } = undo as Entry
      entry.code ??= code
      if (hour) entry.hour = { begins: hour.begins, count: hour.count + (entry.hour?.count ?? 0) }
      if (day && entry.day?.begins === day.begins) {
        entry.day.count += day.count
        entry.logins--
      }
    },

    async countVerified (key, now) {
      const entry = entryOf(key)
      if (now < (entry.verifiedAt ?? 0) + dayMs) return false
      entry.verifiedAt = now
      return true
    },

    async deleteCode (key) {
      entryOf(key).code = undefined
    }
  }
}
