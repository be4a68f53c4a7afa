import type { Redis } from '../../redis/connect.js'
import { replyOf, redisScript } from '../../redis/script.js'

/** Ends of sessions in seconds since the epoch: a session that started at or before one is over. 0 stands for none. */
export interface Revocation {
  /** Of the latest logout, which may not be committed in PostgreSQL yet, or never. */
  until: number
  /** Of the logout before. */
  before: number
}

/**
 * What keeps a token that was logged out dead: the revocation of a user, by id. Throws unavailable when the store does not
 * respond.
 */
export interface LogoutMarks {
  /** Writes the last_login that a logout ends, for as long as a session can live. It never lowers a revocation. */
  leave (userId: number, lastLogin: number): Promise<void>
  find (userId: number): Promise<Revocation>
}

/* Race: two logouts may arrive here out of order. Numbers stay texts, because Lua would drop digits. */
const leave = `
local last, before = string.match(redis.call('GET', KEYS[1]) or '0 0', '^(%S+) ?(%S*)$')
if tonumber(ARGV[1]) > tonumber(last) then last, before = ARGV[1], last end
redis.call('SET', KEYS[1], last .. ' ' .. before, 'EX', ARGV[2])
`

/** Revocations in Redis, shared by all replicas; `ttlSeconds` is the longest time for which a session may still live. */
export function redisLogoutMarks (redis: Redis, ttlSeconds: number): LogoutMarks {
  const leaveMark = redisScript(redis, 'leaveMark', leave)
  return {
    async leave (userId, lastLogin) {
      await leaveMark(`logout:${userId}`, lastLogin, ttlSeconds)
    },
    async find (userId) {
      const [until, before] = (await replyOf(redis.get(`logout:${userId}`)) ?? '0 0').split(' ')
      return { until: Number(until), before: Number(before) }
    }
  }
}

/** Revocations in process memory, for development: they live as long as the process. */
export function memoryLogoutMarks (): LogoutMarks {
  const revocations = new Map<number, Revocation>()
  const find = (userId: number) => revocations.get(userId) ?? { until: 0, before: 0 }
  return {
    async leave (userId, lastLogin) {
      const { until } = find(userId)
      if (lastLogin > until) revocations.set(userId, { until: lastLogin, before: until })
    },
    async find (userId) { return find(userId) }
  }
}
