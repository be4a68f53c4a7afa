import type { Redis } from '../../redis/connect.js'
import { replyOf, redisScript } from '../../redis/script.js'

/** Times in seconds since the epoch: every session that started at or before one of them is over. 0 means none. */
export interface Revocation {
  /** Of the latest logout. Its transaction in PostgreSQL may still be open, or may have failed. */
  until: number
  /** Of the logout before the latest one. */
  before: number
}

/** The revocation of each user, by id: it keeps logged-out tokens dead. Throws unavailable when the store fails. */
export interface Revocations {
  /**
   * Revokes every session that started at or before `lastLogin` (seconds since the epoch), for the longest life of a
   * session. Never lowers a revocation.
   */
  revokeUntil (userId: number, lastLogin: number): Promise<void>
  revokedUntil (userId: number): Promise<Revocation>
}

/* Race: two logouts may arrive out of order. The values stay strings, because a Lua number loses digits. */
const revoke = `
local last, before = string.match(redis.call('GET', KEYS[1]) or '0 0', '^(%S+) ?(%S*)$')
if tonumber(ARGV[1]) > tonumber(last) then last, before = ARGV[1], last end
redis.call('SET', KEYS[1], last .. ' ' .. before, 'EX', ARGV[2])
`

/** Revocations in Redis, shared by all replicas. `ttlSeconds` is the longest time that a revoked session could live. */
export function redisRevocations (redis: Redis, ttlSeconds: number): Revocations {
  const runRevoke = redisScript(redis, 'revoke', revoke)
  return {
    async revokeUntil (userId, lastLogin) {
      await runRevoke(`logout:${userId}`, lastLogin, ttlSeconds)
    },
    async revokedUntil (userId) {
      const [until, before] = (await replyOf(redis.get(`logout:${userId}`)) ?? '0 0').split(' ')
      return { until: Number(until), before: Number(before) }
    }
  }
}

/** Revocations in process memory, for development: they live as long as the process. */
export function memoryRevocations (): Revocations {
  const revocations = new Map<number, Revocation>()
  const find = (userId: number) => revocations.get(userId) ?? { until: 0, before: 0 }
  return {
    async revokeUntil (userId, lastLogin) {
      const { until } = find(userId)
      if (lastLogin > until) revocations.set(userId, { until: lastLogin, before: until })
    },
    async revokedUntil (userId) { return find(userId) }
  }
}
