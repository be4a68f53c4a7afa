import { answerOf, redisScript, type Redis } from '../plugins/redis.js'

/**
 * What keeps a token that was logged out dead: under the user's id the last_login that a logout ended, in seconds since
 * the epoch. Every token issued up to it is dead. Throws unavailable when the store does not answer.
 */
export interface LogoutMarks {
  /** Leaves a mark for one token lifetime and the leeway; a later one is never replaced by an earlier one. */
  leave (userId: number, lastLogin: number): Promise<void>
  /** The mark of a user; -Infinity where there is none. */
  find (userId: number): Promise<number>
}

/* Race: two logouts may arrive here out of order. */
const leave = `
local mark = math.max(tonumber(redis.call('GET', KEYS[1])) or 0, tonumber(ARGV[1]))
redis.call('SET', KEYS[1], mark, 'EX', ARGV[2])
`

/** Marks in Redis, shared by all replicas; `ttlSeconds` is the longest time a token may still live. */
export function redisLogoutMarks (redis: Redis, ttlSeconds: number): LogoutMarks {
  const leaveMark = redisScript(redis, 'leaveMark', leave)
  return {
    async leave (userId, lastLogin) {
      await leaveMark(`logout:${userId}`, lastLogin, ttlSeconds)
    },
    async find (userId) {
      const mark = await answerOf(redis.get(`logout:${userId}`))
      return mark === null ? -Infinity : Number(mark)
    }
  }
}

/** Marks in process memory, for development: they live as long as the process. */
export function memoryLogoutMarks (): LogoutMarks {
  const marks = new Map<number, number>()
  return {
    async leave (userId, lastLogin) { marks.set(userId, Math.max(marks.get(userId) ?? 0, lastLogin)) },
    async find (userId) { return marks.get(userId) ?? -Infinity }
  }
}
