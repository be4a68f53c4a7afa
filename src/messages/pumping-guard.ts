import { addressGroup } from '../http/client-ip.js'
import { keyedDigest } from '../redis/keyed-digest.js'
import { marketIds, type MarketId } from '../phone/markets.js'
import type { CodeSecrets } from '../redis/code-secrets.js'
import type { Redis } from '../redis/connect.js'
import { redisScript } from '../redis/script.js'

const minuteMs = 60_000
const windowMinutes = 60
const windowSeconds = windowMinutes * 60

/** Where the guard counts: for a client IP, for a block of numbers, in a whole market. */
type GuardScope = 'client' | 'block' | 'market'

interface GuardVerdict {
  scope: GuardScope
  retryAfterSeconds: number
}

export type SmsGuard = ReturnType<typeof smsGuard>

/*
 * Race: parallel sends must not pass a threshold together, so the sums are read and the send is counted in one step. One
 * hash for each client group, block or market, with a field for each minute: s<minute> sent, v<minute> verified.
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

/* Race: two sends may meet what was counted under CODE_SECRET_PREVIOUS. One of them takes all of it, in one step. */
const takeCounts = `
local counted = redis.call('HGETALL', KEYS[1])
redis.call('DEL', KEYS[1])
return counted
`

const addCounts = `
for i = 1, #ARGV, 2 do redis.call('HINCRBY', KEYS[1], ARGV[i], ARGV[i + 1]) end
redis.call('EXPIRE', KEYS[1], ${windowSeconds})
`

interface GuardedSend {
  phone: string
  market: MarketId
  /** Of the client IP that asked for the message: what clientGroup() returns. */
  client: string
  /** Milliseconds since the epoch. */
  now: number
  isKnown: boolean
}

interface GuardOptions extends CodeSecrets {
  smsGuard: 'enforce' | 'observe' | 'off'
  smsGuardBlockSends: number
  smsGuardMarketSends: number
  smsGuardClientSends: number
  smsGuardMinVerifiedPercent: number
}

/**
 * The pumping guard (CONTRACT, section 8): compares messages to unknown numbers with logins of such numbers over the last 60
 * minutes, for each client IP, block of numbers (E.164 without the last four digits) and market. A known number is never
 * counted or stopped, but costs the same commands, or the time taken would tell it apart.
 */
export function smsGuard (redis: Redis, config: GuardOptions) {
  const run = redisScript<number>(redis, 'guardCount', count)
  const thresholds = { client: config.smsGuardClientSends, block: config.smsGuardBlockSends, market: config.smsGuardMarketSends }
  const digest = (scope: GuardScope, what: string, secret = config.codeSecret) => keyedDigest(secret, scope, what)
  const marketKeys = Object.fromEntries(marketIds.map((market) => [market, digest('market', market)])) as Record<MarketId, string>

  const takePrevious = redisScript<string[]>(redis, 'guardTake', takeCounts)
  const addPrevious = redisScript<null>(redis, 'guardAdd', addCounts)
  /** Adds what was counted under CODE_SECRET_PREVIOUS to what is counted now. */
  async function carryOver (scope: GuardScope, what: string) {
    if (config.codeSecretPrevious === undefined) return
    const counts = await takePrevious(`guard:${digest(scope, what, config.codeSecretPrevious)}`)
    if (counts.length > 0) await addPrevious(`guard:${digest(scope, what)}`, ...counts)
  }

  const blockOf = (phone: string) => phone.slice(0, -4)

  /** The scopes of a send, narrowest first. */
  const scopesOf = ({ phone, market, client }: Omit<GuardedSend, 'isKnown'>): Array<[GuardScope, string]> =>
    [['client', client], ['block', digest('block', blockOf(phone))], ['market', marketKeys[market]]]

  /** Counts in one hash; returns the minutes for which it is paused, 0 where it is not. */
  const add = ([scope, key]: [GuardScope, string], now: number, kind: 's' | 'v', by: number) => run(
    `guard:${key}`, Math.floor(now / minuteMs), thresholds[scope], config.smsGuardMinVerifiedPercent, kind, by, config.smsGuard)

  /** Gives back what a send was counted for. */
  const undo = (scopes: Array<[GuardScope, string]>, { now, isKnown }: GuardedSend) =>
    Promise.all(scopes.map((scope) => add(scope, now, 's', isKnown ? 0 : -1)))

  return {
    /** Stands in Redis for all client IPs that count as one. */
    async clientGroup (clientIp: string): Promise<string> {
      await carryOver('client', addressGroup(clientIp))
      return digest('client', addressGroup(clientIp))
    },

    /**
     * Counts a send, unless one of its scopes is paused and the guard enforces that. One scope after the other: a flood that
     * a narrow scope refuses must not count in a wider one, not even until it is undone.
     */
    async admit (send: GuardedSend): Promise<GuardVerdict | undefined> {
      await Promise.all([carryOver('block', blockOf(send.phone)), carryOver('market', send.market)])
      const counted: Array<[GuardScope, string]> = []
      let verdict: GuardVerdict | undefined
      try {
        for (const scope of scopesOf(send)) {
          const minutes = await add(scope, send.now, 's', send.isKnown ? 0 : 1)
          if (minutes > 0 && !send.isKnown) {
            verdict ??= { scope: scope[0], retryAfterSeconds: minutes * 60 }
            if (config.smsGuard === 'enforce') break
          }
          counted.push(scope)
        }
      } catch (error) {
        // Nothing is sent. Where this fails too, the error of the count is the one to report.
        await undo(counted, send).catch(() => undefined)
        throw error
      }
      if (verdict && config.smsGuard === 'enforce') await undo(counted, send)
      return verdict
    },

    /** Takes back a send that was counted but did not go out. */
    async release (send: GuardedSend): Promise<void> {
      await undo(scopesOf(send), send)
    },

    /** Counts a login of an unknown number, for the client group that asked for the message. */
    async verified (login: Omit<GuardedSend, 'isKnown'>): Promise<void> {
      await Promise.all(scopesOf(login).map((scope) => add(scope, login.now, 'v', 1)))
    }
  }
}
