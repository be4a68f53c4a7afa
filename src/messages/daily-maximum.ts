import { keyedDigest } from '../redis/keyed-digest.js'
import type { MarketId } from '../phone/markets.js'
import type { Redis } from '../redis/connect.js'
import { replyOf, redisScript } from '../redis/script.js'
import { secretPicker, type CodeSecrets } from '../redis/code-secrets.js'

const dayMs = 86_400_000
const warningPercent = 80

/** A counted message of a market. `isWarning` is true for the one message of the day that reaches 80 %. */
export interface Place { status: 'taken', market: MarketId, begins: number, isWarning: boolean }
interface Full { status: 'full', retryAfterMs: number }

/*
 * Race: parallel sends must not exceed the ceiling together, nor warn twice. One hash per market: b day begins,
 * n messages in that day, w warned.
 */
const take = `
local max, now = tonumber(ARGV[1]), tonumber(ARGV[2])
local begins, count, warned = unpack(redis.call('HMGET', KEYS[1], 'b', 'n', 'w'))
begins, count = tonumber(begins or 0), tonumber(count or 0)
if now >= begins + ${dayMs} then
  begins, count, warned = now, 0, false
  redis.call('DEL', KEYS[1])
  redis.call('HSET', KEYS[1], 'b', now)
  redis.call('PEXPIRE', KEYS[1], ${dayMs})
end
if count >= max then return {'full', math.min(begins + ${dayMs} - now, ${dayMs})} end
redis.call('HSET', KEYS[1], 'n', count + 1)
if warned or (count + 1) * 100 < max * ${warningPercent} then return {'taken', tostring(begins)} end
redis.call('HSET', KEYS[1], 'w', 1)
return {'warning', tostring(begins)}
`

/* Race: a new day may have begun since the message was counted. Its count stays as it is. */
const giveBack = `
if redis.call('HGET', KEYS[1], 'b') == ARGV[1] then redis.call('HINCRBY', KEYS[1], 'n', -1) end
`

export type DailyMessages = ReturnType<typeof dailyMessages>

/**
 * SMS_MARKET_DAILY_MAX (CONTRACT, section 8): counts the messages of a market, also to known numbers, in the day that
 * begins with the first. Throws unavailable when Redis does not respond.
 */
export function dailyMessages (redis: Redis, secrets: CodeSecrets, max: number) {
  const scripts = {
    take: redisScript<[string, string | number]>(redis, 'dailyTake', take),
    giveBack: redisScript<null>(redis, 'dailyGiveBack', giveBack)
  }
  const pickSecret = secretPicker(secrets, (key) => replyOf(redis.exists(key)))
  /** Returns the Redis key of a market. */
  async function dayOf (market: MarketId) {
    const keyOf = (secret: string) => `daily:${keyedDigest(secret, 'daily', market)}`
    return keyOf(await pickSecret(keyOf))
  }

  return {
    max,

    /** Counts one message, or returns `full` at the maximum. `now` is in milliseconds since the epoch. */
    async take (market: MarketId, now: number): Promise<Place | Full> {
      const [status, value] = await scripts.take(await dayOf(market), max, now)
      if (status === 'full') return { status, retryAfterMs: Number(value) }
      return { status: 'taken', market, begins: Number(value), isWarning: status === 'warning' }
    },

    /** Undoes `take` for a message that was not sent. */
    async giveBack ({ market, begins }: Place): Promise<void> {
      await scripts.giveBack(await dayOf(market), begins)
    }
  }
}
