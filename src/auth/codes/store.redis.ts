import type { Redis } from '../../redis/connect.js'
import { replyOf, redisScript } from '../../redis/script.js'
import {
  dayMs, hourMs, maxLifeMs, minLeftMs, sendsCeiling, type CodeLimits, type CodeStore, type Issued
} from './store.js'

/*
 * One hash per number. One-letter fields keep it a listpack below 350 bytes:
 *   live code, removed as a whole: n nonce, d digest, a wrong guesses, f first sent, x expires, s last sent,
 *     u client group (empty for a known number)
 *   caps: h hour begins, i sends in that hour, b day begins, j sends in that day, t the same, but no login clears it,
 *     l logins that have cleared i and j
 *   g day of wrong guesses begins, w wrong guesses in that day
 *   v last login that counted as verified
 * A send to a test number changes the live code only.
 */
const codeFields = ['n', 'd', 'a', 'f', 'x', 's', 'u']

const load = `
local key = KEYS[1]
local stored = {}
local flat = redis.call('HGETALL', key)
for i = 1, #flat, 2 do stored[flat[i]] = flat[i + 1] end
local function number(field) return tonumber(stored[field]) or 0 end
local hour, day = ${hourMs}, ${dayMs}
local codeFields = {${codeFields.map((field) => `'${field}'`).join(', ')}}
local function isLive(now) return stored.n and number('x') > now end
local function guessesLeft(now, perDay) return now < number('g') + day and perDay - number('w') or perDay end
`

/* Race: parallel sends to one number must result in one message, so one step decides on cooldown, caps and code. */
const issue = `${load}
local now, nonce, digest = tonumber(ARGV[1]), ARGV[2], ARGV[3]
local ttl, resend, perHour, perDay = tonumber(ARGV[4]), tonumber(ARGV[5]), tonumber(ARGV[6]), tonumber(ARGV[7])
local guessesPerDay, isTest, client = tonumber(ARGV[8]), ARGV[9] == '1', ARGV[10]
if guessesLeft(now, guessesPerDay) <= 0 then return {'too_many', number('g') + day - now} end
local cooldown = math.min(number('s') + resend, number('x')) - now
if not isTest and isLive(now) and cooldown > 0 then return {'too_soon', math.min(cooldown, resend)} end
local undo = {stored.l or ''}
for _, field in ipairs(codeFields) do undo[#undo + 1] = stored[field] or '' end

if not isTest then
  if now >= number('h') + hour then stored.h, stored.i = now, 0 end
  if now >= number('b') + day then stored.b, stored.j, stored.t = now, 0, 0 end
  local wait = 0
  if number('i') >= perHour then wait = number('h') + hour - now end
  if number('j') >= perDay or number('t') >= ${sendsCeiling} then wait = number('b') + day - now end
  if wait > 0 then return {'too_many', wait} end
  stored.i, stored.j, stored.t = number('i') + 1, number('j') + 1, number('t') + 1
end

local expires = math.min(now + ttl, number('f') + ${maxLifeMs})
if not (isLive(now) and expires - now >= math.min(${minLeftMs}, ttl)) then
  stored.n, stored.d, stored.a, stored.f = nonce, digest, 0, now
  expires = now + ttl
end
stored.x, stored.s, stored.u = expires, now, client
local fields = {}
for field, value in pairs(stored) do
  fields[#fields + 1] = field
  fields[#fields + 1] = value
end
redis.call('HSET', key, unpack(fields))
local ends = math.max(number('b') + day, number('h') + hour, number('g') + day, number('v') + day, expires)
redis.call('PEXPIRE', key, ends - now)
return {'issued', stored.n, tostring(expires), tostring(now), unpack(undo)}
`

/*
 * Race: a later send, a login or a wrong guess may come before the cancel. So the cancel undoes this send only: it
 * changes no hour or day that began after the send, and no count that a login has cleared since.
 */
const cancel = `${load}
local nonce, sent, logins = ARGV[1], tonumber(ARGV[2]), ARGV[3]
if (stored.l or '') == logins then
  if number('h') <= sent then
    if number('i') <= 1 then redis.call('HDEL', key, 'h', 'i') else redis.call('HINCRBY', key, 'i', -1) end
  end
  if number('b') <= sent and number('j') > 0 then redis.call('HINCRBY', key, 'j', -1) end
end
if number('b') <= sent then
  if number('t') <= 1 then redis.call('HDEL', key, 'b', 'j', 't') else redis.call('HINCRBY', key, 't', -1) end
end
if stored.n ~= nonce or number('s') ~= sent then return end
local before = {}
for i, field in ipairs(codeFields) do before[field] = ARGV[3 + i] end
for _, field in ipairs(before.n == nonce and {'x', 's', 'u'} or codeFields) do
  if before[field] == '' then redis.call('HDEL', key, field) else redis.call('HSET', key, field, before[field]) end
end
`

/* Race: of parallel right guesses one must win, and parallel wrong guesses must not exceed their limits. */
const redeem = `${load}
local digest, now, maxAttempts, guessesPerDay = ARGV[1], tonumber(ARGV[2]), tonumber(ARGV[3]), tonumber(ARGV[4])
local isTest, expected = ARGV[5] ~= '', ARGV[5] ~= '' and ARGV[5] or stored.d
local left = guessesLeft(now, guessesPerDay)
if left <= 0 or not (isTest or isLive(now)) then return {'none'} end

if digest ~= expected then
  if left == guessesPerDay then redis.call('HSET', key, 'g', now, 'w', 1) else redis.call('HINCRBY', key, 'w', 1) end
  redis.call('PEXPIRE', key, day)
  if not isLive(now) then return {'wrong'} end
  left = math.min(left, maxAttempts - number('a')) - 1
  if left > 0 then redis.call('HINCRBY', key, 'a', 1) else redis.call('HDEL', key, unpack(codeFields)) end
  return {'wrong', math.max(left, 0)}
end

if not isLive(now) then return {'none'} end
local undo = {}
for _, field in ipairs({'h', 'i', 'b', 'j', unpack(codeFields)}) do undo[#undo + 1] = stored[field] or '' end
-- HSET comes first: an HDEL that empties the hash deletes the key, and HSET would create it again without a TTL.
if stored.j then redis.call('HSET', key, 'j', 0, 'l', number('l') + 1) end
redis.call('HDEL', key, 'h', 'i', unpack(codeFields))
return {'right', stored.u or '', unpack(undo)}
`

/* Race: a newer code may have been sent in the meantime. The newer code stays, and the counts add up. */
const restore = `${load}
local h, i, b, j = unpack(ARGV, 1, 4)
if not stored.n then
  for at, field in ipairs(codeFields) do redis.call('HSET', key, field, ARGV[4 + at]) end
end
if h ~= '' then
  redis.call('HSET', key, 'h', h)
  redis.call('HINCRBY', key, 'i', i)
end
if b ~= '' and stored.b == b then
  redis.call('HINCRBY', key, 'j', j)
  if number('l') > 1 then redis.call('HINCRBY', key, 'l', -1) else redis.call('HDEL', key, 'l') end
end
if redis.call('PTTL', key) < 0 then redis.call('PEXPIRE', key, day) end
`

/* Race: of parallel logins of one number one counts. No other field of the hash is needed for longer than a day. */
const countVerified = `
local now = tonumber(ARGV[1])
if now < tonumber(redis.call('HGET', KEYS[1], 'v') or 0) + ${dayMs} then return {'no'} end
redis.call('HSET', KEYS[1], 'v', now)
redis.call('PEXPIRE', KEYS[1], ${dayMs})
return {'yes'}
`

/** Codes in Redis: one hash per number, under `code:` and the key of the number. */
export function redisCodeStore (redis: Redis, limits: CodeLimits): CodeStore {
  const { ttlMs, resendMs, sendsPerHour, sendsPerDay, maxAttempts, guessesPerDay } = limits
  const script = (name: string, lua: string) => {
    const run = redisScript<[string, ...Array<string | undefined>]>(redis, name, lua)
    return (key: string, ...args: Array<string | number>) => run(`code:${key}`, ...args)
  }
  const scripts = {
    issue: script('codeIssue', issue),
    cancel: script('codeCancel', cancel),
    redeem: script('codeRedeem', redeem),
    restore: script('codeRestore', restore),
    countVerified: script('codeCountVerified', countVerified)
  }

  return {
    has: async (key) => await replyOf(redis.exists(`code:${key}`)) > 0,

    async issue (key, { nonce, digest, client = '' }, now, isTest = false) {
      const [status, ...reply] = await scripts.issue(key, now, nonce, digest, ttlMs, resendMs, sendsPerHour,
        sendsPerDay, guessesPerDay, Number(isTest), client)
      if (status !== 'issued') return { status: status as 'too_soon' | 'too_many', retryAfterMs: Number(reply[0]) }
      const [issuedNonce, expiresAt, ...undo] = reply as [string, string, ...string[]]
      return { status, nonce: issuedNonce, expiresAt: Number(expiresAt), undo }
    },

    async cancel (key, { nonce, undo }: Issued) {
      await scripts.cancel(key, nonce, ...undo as string[])
    },

    async redeem (key, digest, now, testDigest = '') {
      const [status, ...reply] = await scripts.redeem(key, digest, now, maxAttempts, guessesPerDay, testDigest)
      if (status === 'right') return { status, client: reply[0] as string, undo: reply.slice(1) }
      if (status !== 'wrong') return { status: 'none' }
      return { status, ...(reply[0] !== undefined && { attemptsRemaining: Number(reply[0]) }) }
    },

    async restore (key, undo) {
      await scripts.restore(key, ...undo as string[])
    },

    async countVerified (key, now) {
      return (await scripts.countVerified(key, now))[0] === 'yes'
    },

    async deleteCode (key) {
      await replyOf(redis.hdel(`code:${key}`, ...codeFields))
    }
  }
}
