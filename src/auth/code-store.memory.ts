import { dayMs, guessesCeiling, hourMs, maxLifeMs, minLeftMs, sendsCeiling, type CodeLimits, type CodeStore } from './code-store.js'

interface Code { nonce: string, digest: string, attempts: number, firstSent: number, expiresAt: number }
interface Window { begins: number, sends: number }
interface Entry { code?: Code | undefined, sentAt?: number | undefined, hour?: Window | undefined, day?: Window & { total: number } | undefined }

const open = <T extends Window>(window: T | undefined, lengthMs: number, now: number) =>
  window && now < window.begins + lengthMs ? window : undefined

const dayOf = (entry: Entry, now: number) => open(entry.day, dayMs, now) ?? { begins: now, sends: 0, total: 0 }

/**
 * Codes in process memory, for development: they die with the process and no second one sees them.
 * Behaves as the Redis store does; the same tests hold both. What has ended is dropped when a number is used again.
 */
export function memoryCodeStore ({ ttlMs, resendMs, sendsPerHour, sendsPerDay, maxAttempts }: CodeLimits): CodeStore {
  const entries = new Map<string, Entry>()
  const entryOf = (key: string) => {
    const entry = entries.get(key) ?? {}
    entries.set(key, entry)
    return entry
  }

  return {
    async issue (key, candidate, now, isTest = false) {
      const entry = entryOf(key)
      const wait = (entry.sentAt ?? 0) + resendMs - now
      if (!isTest && wait > 0) return { status: 'too_soon', retryAfterMs: Math.min(wait, resendMs) }
      const before = { code: entry.code && { ...entry.code }, sentAt: entry.sentAt }

      const hour = open(entry.hour, hourMs, now) ?? { begins: now, sends: 0 }
      const day = dayOf(entry, now)
      const isDayOver = isTest ? day.total >= guessesCeiling : day.sends >= sendsPerDay || day.total >= sendsCeiling
      if (isDayOver) return { status: 'too_many', retryAfterMs: day.begins + dayMs - now }
      if (!isTest && hour.sends >= sendsPerHour) return { status: 'too_many', retryAfterMs: hour.begins + hourMs - now }

      let { code } = entry
      const expiresAt = Math.min(now + ttlMs, (code?.firstSent ?? 0) + maxLifeMs)
      if (code && code.expiresAt > now && expiresAt - now >= Math.min(minLeftMs, ttlMs)) code.expiresAt = expiresAt
      else code = { ...candidate, attempts: 0, firstSent: now, expiresAt: now + ttlMs }
      Object.assign(entry, { code, day })
      if (!isTest) {
        hour.sends++
        day.sends++
        day.total++
        Object.assign(entry, { sentAt: now, hour })
      }
      return { status: 'issued', nonce: code.nonce, expiresAt: code.expiresAt, undo: { before, now } }
    },

    async takeBack (key, { nonce, undo }) {
      const entry = entryOf(key)
      const { before, now } = undo as { before: Entry, now: number }
      const { hour, day } = entry
      if (hour && hour.begins <= now && --hour.sends === 0) entry.hour = undefined
      if (day && day.begins <= now) {
        day.sends = Math.max(day.sends - 1, 0)
        if (--day.total === 0) entry.day = undefined
      }
      if (entry.sentAt !== now) return
      entry.sentAt = before.sentAt
      if (entry.code?.nonce !== nonce) return
      if (before.code?.nonce === nonce) entry.code.expiresAt = before.code.expiresAt
      else entry.code = before.code
    },

    async redeem (key, digest, now, testDigest) {
      const entry = entryOf(key)
      const { code } = entry
      let guessesLeft = Infinity
      if (testDigest !== undefined) {
        const day = dayOf(entry, now)
        if (day.total >= guessesCeiling) return { status: 'none' }
        if (digest !== testDigest) {
          guessesLeft = guessesCeiling - ++day.total
          entry.day = day
        }
      }
      if (!code || code.expiresAt <= now) return { status: 'none' }
      if (digest === (testDigest ?? code.digest)) {
        const undo = { ...entry, day: entry.day && { ...entry.day } }
        entry.code = undefined
        entry.hour = undefined
        if (entry.day) entry.day.sends = 0
        return { status: 'right', undo }
      }
      const attemptsRemaining = Math.max(Math.min(maxAttempts - ++code.attempts, guessesLeft), 0)
      if (attemptsRemaining === 0) entry.code = undefined
      return { status: 'wrong', attemptsRemaining }
    },

    async putBack (key, undo) {
      const entry = entryOf(key)
      const { code, hour, day } = undo as Entry
      entry.code ??= code
      if (hour) entry.hour = { begins: hour.begins, sends: hour.sends + (entry.hour?.sends ?? 0) }
      if (day && entry.day?.begins === day.begins) entry.day.sends += day.sends
    },

    async forget (key) {
      entryOf(key).code = undefined
    }
  }
}
