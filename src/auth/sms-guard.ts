import type { Config } from '../config.js'
import { keyedDigest } from '../keyed-digest.js'
import { marketIds, type MarketId } from '../markets.js'
import { redisScript, type Redis } from '../plugins/redis.js'

const minuteMs = 60_000
const windowMinutes = 60
const windowSeconds = windowMinutes * 60

/** Where the guard stopped a send: in a block of numbers or in a whole market. */
export type GuardScope = 'block' | 'market'

export interface GuardVerdict {
  scope: GuardScope
  retryAfterSeconds: number
}

export type SmsGuard = ReturnType<typeof smsGuard>

/*
 * Race: parallel sends to one block must not pass its bound together, so the sums are read and the send is counted in one
 * step. One hash for a block or a market, with a field for each minute: s<minute> sent, v<minute> verified.
 */
const count = `
local now, sends, percent, kind, by = tonumber(ARGV[1]), tonumber(ARGV[2]), tonumber(ARGV[3]), ARGV[4], tonumber(ARGV[5])
local isEnforced = ARGV[6] == 'enforce'
local oldest = now
local sum = {s = 0, v = 0}
local flat = redis.call('HGETALL', KEYS[1])
for i = 1, #flat, 2 do
  local letter, minute, counted = string.sub(flat[i], 1, 1), tonumber(string.sub(flat[i], 2)), tonumber(flat[i + 1])
  if minute <= now - ${windowMinutes} then
    redis.call('HDEL', KEYS[1], flat[i])
  else
    sum[letter] = sum[letter] + counted
    if letter == 's' and counted > 0 and minute < oldest then oldest = minute end
  end
end
local pause = 0
if kind == 's' and by >= 0 and sum.s >= sends and sum.v * 100 < sum.s * percent then pause = oldest + ${windowMinutes} - now end
if pause > 0 and isEnforced then return pause end
redis.call('HINCRBY', KEYS[1], kind .. now, by)
redis.call('EXPIRE', KEYS[1], ${windowSeconds})
return pause
`

/**
 * The traffic guard against SMS pumping (CONTRACT, section 8): over the last 60 minutes, for each block of numbers (E.164
 * without the last four digits) and each market, messages to numbers that nobody has logged in with against first logins.
 * A known number is never counted or stopped, but costs the same commands, or the time taken would tell it apart.
 * `now` is in milliseconds since the epoch.
 */
export function smsGuard (redis: Redis, config: Pick<Config, 'codeSecret' | 'smsGuard' | 'smsGuardBlockSends' | 'smsGuardMarketSends' | 'smsGuardMinVerifiedPercent'>) {
  const run = redisScript<number>(redis, 'guardCount', count)
  const bounds = { block: config.smsGuardBlockSends, market: config.smsGuardMarketSends }
  const marketKeys = Object.fromEntries(marketIds.map((market) => [market, keyedDigest(config.codeSecret, 'market', market)])) as Record<MarketId, string>

  /** Counts in one hash; answers the minutes for which it is paused, 0 where it is not. */
  const add = (scope: GuardScope, key: string, now: number, kind: 's' | 'v', by: number) => run(
    `guard:${key}`, Math.floor(now / minuteMs), bounds[scope], config.smsGuardMinVerifiedPercent, kind, by, config.smsGuard)
  const blockKey = (phone: string) => keyedDigest(config.codeSecret, 'block', phone.slice(0, -4))

  /** Block and market are keys of their own, on slots of their own; both are asked in one round trip. */
  const both = (phone: string, market: MarketId, now: number, kind: 's' | 'v', by: number) => Promise.all([
    add('block', blockKey(phone), now, kind, by), add('market', marketKeys[market], now, kind, by)
  ])

  return {
    /** Counts a send, unless the block or the market of the number is paused and the guard enforces that. */
    async admit (phone: string, market: MarketId, now: number, isKnown: boolean): Promise<GuardVerdict | undefined> {
      const [block, wide] = await both(phone, market, now, 's', isKnown ? 0 : 1)
      if (isKnown || (block === 0 && wide === 0)) return undefined
      if (config.smsGuard === 'enforce') {
        // What is refused is not counted: not in the one of the two that would have let it pass either.
        if (wide === 0) await add('market', marketKeys[market], now, 's', -1)
        if (block === 0) await add('block', blockKey(phone), now, 's', -1)
      }
      return { scope: block > 0 ? 'block' : 'market', retryAfterSeconds: Math.max(block, wide) * 60 }
    },

    /** Takes back a send that was counted but did not go out. */
    async release (phone: string, market: MarketId, now: number, isKnown: boolean): Promise<void> {
      await both(phone, market, now, 's', isKnown ? 0 : -1)
    },

    /** Counts the first login of a number. */
    async verified (phone: string, market: MarketId, now: number): Promise<void> {
      await both(phone, market, now, 'v', 1)
    }
  }
}
