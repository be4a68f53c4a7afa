import { addressGroup } from '../http/client-ip.js'
import { keyedDigest } from '../redis/keyed-digest.js'
import { marketIds, type MarketId } from '../phone/markets.js'
import type { CodeSecrets } from '../redis/code-secrets.js'
import type { Redis } from '../redis/connect.js'
import { redisScript } from '../redis/script.js'

const minuteMs = 60_000
const windowMinutes = 60
const windowSeconds = windowMinutes * 60

/** What the pumping guard counts by: client IP, block of numbers, or market. */
type GuardScope = 'client' | 'block' | 'market'

interface GuardVerdict {
  scope: GuardScope
  mode: PumpingGuardOptions['mode']
  retryAfterSeconds: number
}

export type PumpingGuard = ReturnType<typeof pumpingGuard>

/*
 * Race: parallel sends must not exceed a threshold together, so one step reads the sums and counts the send. One hash
 * per client group, block and market, with two fields per minute: s<minute> sent, v<minute> verified.
 */
const count = `
local now, sends, percent = tonumber(ARGV[1]), tonumber(ARGV[2]), tonumber(ARGV[3])
local kind, by = ARGV[4], tonumber(ARGV[5])
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
if kind == 's' and by >= 0 and sum.s >= sends and sum.v * 100 < sum.s * percent then
  pause = oldest + ${windowMinutes} - now
end
if pause > 0 and isEnforced then return pause end
redis.call('HINCRBY', KEYS[1], kind .. now, by)
redis.call('EXPIRE', KEYS[1], ${windowSeconds})
return pause
`

/* Race: two sends may move the counts under CODE_SECRET_PREVIOUS. One of them takes all counts in one step. */
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
  /** The client group of the client IP, from `clientGroup`. */
  client: string
  /** Milliseconds since the epoch. */
  now: number
  isKnown: boolean
}

export interface PumpingGuardOptions {
  mode: 'enforce' | 'observe' | 'off'
  blockSends: number
  marketSends: number
  clientSends: number
  /** The share of the messages that must lead to a login. */
  minVerifiedPercent: number
}

/**
 * The pumping guard (CONTRACT, section 8): compares messages to unknown numbers with logins of such numbers over the
 * last 60 minutes, per client IP, block of numbers (E.164 without the last four digits) and market. Known numbers are
 * neither counted nor refused, but run the same commands: otherwise the response time would reveal them.
 */
export function pumpingGuard (redis: Redis, config: PumpingGuardOptions, secrets: CodeSecrets) {
  const run = redisScript<number>(redis, 'guardCount', count)
  const thresholds = { client: config.clientSends, block: config.blockSends, market: config.marketSends }
  const digest = (scope: GuardScope, what: string, secret = secrets.current) => keyedDigest(secret, scope, what)
  const marketKeys = Object.fromEntries(
    marketIds.map((market) => [market, digest('market', market)])) as Record<MarketId, string>

  const takePrevious = redisScript<string[]>(redis, 'guardTake', takeCounts)
  const addPrevious = redisScript<null>(redis, 'guardAdd', addCounts)
  /** Moves the counts under CODE_SECRET_PREVIOUS to those under CODE_SECRET. */
  async function carryOver (scope: GuardScope, what: string) {
    if (secrets.previous === undefined) return
    const counts = await takePrevious(`guard:${digest(scope, what, secrets.previous)}`)
    if (counts.length > 0) await addPrevious(`guard:${digest(scope, what)}`, ...counts)
  }

  const blockOf = (phone: string) => phone.slice(0, -4)

  /** The scopes of a send, the narrowest first. */
  const scopesOf = ({ phone, market, client }: Omit<GuardedSend, 'isKnown'>): Array<[GuardScope, string]> =>
    [['client', client], ['block', digest('block', blockOf(phone))], ['market', marketKeys[market]]]

  /** Counts in one hash. Returns the minutes for which its scope is paused, or 0. */
  const add = ([scope, key]: [GuardScope, string], now: number, kind: 's' | 'v', by: number) => run(`guard:${key}`,
    Math.floor(now / minuteMs), thresholds[scope], config.minVerifiedPercent, kind, by, config.mode)

  /** Undoes the count of a send in `scopes`. */
  const undo = (scopes: Array<[GuardScope, string]>, { now, isKnown }: GuardedSend) =>
    Promise.all(scopes.map((scope) => add(scope, now, 's', isKnown ? 0 : -1)))

  return {
    /** Returns the digest that identifies a client IP in Redis. All IPs of an IPv6 /64 share one. */
    async clientGroup (clientIp: string): Promise<string> {
      await carryOver('client', addressGroup(clientIp))
      return digest('client', addressGroup(clientIp))
    },

    /**
     * Counts a send, unless a scope is paused and the guard enforces the pause. Returns the verdict against the send,
     * or undefined. One scope after the other: a flood that a narrow scope refuses must not count in a wider one, not
     * even for a moment. Throws unavailable when Redis does not respond.
     */
    async admit (send: GuardedSend): Promise<GuardVerdict | undefined> {
      await Promise.all([carryOver('block', blockOf(send.phone)), carryOver('market', send.market)])
      const counted: Array<[GuardScope, string]> = []
      let verdict: GuardVerdict | undefined
      try {
        for (const scope of scopesOf(send)) {
          const minutes = await add(scope, send.now, 's', send.isKnown ? 0 : 1)
          if (minutes > 0 && !send.isKnown) {
            verdict ??= { scope: scope[0], mode: config.mode, retryAfterSeconds: minutes * 60 }
            if (config.mode === 'enforce') break
          }
          counted.push(scope)
        }
      } catch (error) {
        // The message is not sent. If the undo fails too, the first error is the one to report.
        await undo(counted, send).catch(() => undefined)
        throw error
      }
      if (verdict && config.mode === 'enforce') await undo(counted, send)
      return verdict
    },

    /** Undoes `admit` for a message that was not sent. */
    async release (send: GuardedSend): Promise<void> {
      await undo(scopesOf(send), send)
    },

    /** Counts a login of an unknown number. `client` is the client group that requested the message. */
    async verified (login: Omit<GuardedSend, 'isKnown'>): Promise<void> {
      await Promise.all(scopesOf(login).map((scope) => add(scope, login.now, 'v', 1)))
    }
  }
}
