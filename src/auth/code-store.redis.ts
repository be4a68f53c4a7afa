import { answerOf, redisScript, type Redis } from '../plugins/redis.js'
import { dayMs, guessesCeiling, hourMs, maxLifeMs, minLeftMs, sendsCeiling, type CodeLimits, type CodeStore, type Issued } from './code-store.js'

/*
 * One hash a number, with short names so that it stays a listpack of under 350 bytes:
 *   n nonce  d digest  a wrong guesses  f first sent  x expires   the pending code
 *   s last sent  h hour begins  i sends in it  b day begins  j sends in it  t sends in it that nothing clears
 * At a test number s, i and j stay as they are, and t counts wrong guesses.
 */
const load = `
local key = KEYS[1]
local stored = {}
local flat = redis.call('HGETALL', key)
for i = 1, #flat, 2 do stored[flat[i]] = flat[i + 1] end
local function number(field) return tonumber(stored[field]) or 0 end
local hour, day = ${hourMs}, ${dayMs}
`

/* Race: parallel sends to one number must make one message, so cooldown, caps and code are decided in one step. */
const issue = `${load}
local now, nonce, digest = tonumber(ARGV[1]), ARGV[2], ARGV[3]
local ttl, resend, perHour, perDay = tonumber(ARGV[4]), tonumber(ARGV[5]), tonumber(ARGV[6]), tonumber(ARGV[7])
local isTest = ARGV[8] == '1'
local wait = number('s') + resend - now
if not isTest and wait > 0 then return {'too_soon', math.min(wait, resend)} end
local undo = {stored.s or '', stored.n or '', stored.d or '', stored.a or '', stored.f or '', stored.x or ''}

if now >= number('h') + hour then stored.h, stored.i = now, 0 end
if now >= number('b') + day then stored.b, stored.j, stored.t = now, 0, 0 end
wait = 0
if not isTest and number('i') >= perHour then wait = number('h') + hour - now end
if not isTest and number('j') >= perDay or number('t') >= (isTest and ${guessesCeiling} or ${sendsCeiling}) then
  wait = number('b') + day - now
end
if wait > 0 then return {'too_many', wait} end

local expires = math.min(now + ttl, number('f') + ${maxLifeMs})
if not (stored.n and number('x') > now and expires - now >= math.min(${minLeftMs}, ttl)) then
  stored.n, stored.d, stored.a, stored.f = nonce, digest, 0, now
  expires = now + ttl
end
stored.x = expires
if not isTest then
  stored.s, stored.i, stored.j, stored.t = now, number('i') + 1, number('j') + 1, number('t') + 1
end
local fields = {}
for field, value in pairs(stored) do
  fields[#fields + 1] = field
  fields[#fields + 1] = value
end
redis.call('HSET', key, unpack(fields))
redis.call('PEXPIRE', key, math.max(number('b') + day, number('h') + hour, expires, now + resend) - now)
return {'issued', stored.n, tostring(expires), tostring(now), unpack(undo)}
`

/*
 * Race: a later send, a login or a wrong guess may have come since; only what is still this send's own is undone. An hour
 * or a day that began after it has not counted it.
 */
const takeBack = `${load}
local nonce, sent = ARGV[1], tonumber(ARGV[2])
local before = {s = ARGV[3], n = ARGV[4], d = ARGV[5], a = ARGV[6], f = ARGV[7], x = ARGV[8]}
local function restore(field)
  if before[field] == '' then redis.call('HDEL', key, field) else redis.call('HSET', key, field, before[field]) end
end
if number('h') <= sent then
  if number('i') <= 1 then redis.call('HDEL', key, 'h', 'i') else redis.call('HINCRBY', key, 'i', -1) end
end
if number('b') <= sent then
  if number('j') > 0 then redis.call('HINCRBY', key, 'j', -1) end
  if number('t') <= 1 then redis.call('HDEL', key, 'b', 'j', 't') else redis.call('HINCRBY', key, 't', -1) end
end
if number('s') ~= sent then return end
restore('s')
if stored.n ~= nonce then return end
if before.n ~= nonce then
  for _, field in ipairs({'n', 'd', 'a', 'f'}) do restore(field) end
end
restore('x')
`

/* Race: of many right guesses one must win, and of many wrong ones only so many may be compared. */
const redeem = `${load}
local digest, now, maxAttempts, testDigest = ARGV[1], tonumber(ARGV[2]), tonumber(ARGV[3]), ARGV[4]
local left, expected = maxAttempts - number('a') - 1, stored.d
if testDigest ~= '' then
  expected = testDigest
  if now >= number('b') + day then stored.b, stored.j, stored.t = now, 0, 0 end
  if number('t') >= ${guessesCeiling} then return {'none'} end
  if digest ~= expected then
    stored.t = number('t') + 1
    left = math.min(left, ${guessesCeiling} - stored.t)
    redis.call('HSET', key, 'b', stored.b, 'j', stored.j, 't', stored.t)
    redis.call('PEXPIRE', key, math.max(number('b') + day, number('x')) - now)
  end
end
if not stored.n or number('x') <= now then return {'none'} end
if digest == expected then
  -- First, and only where it is: emptied by HDEL the key would be made anew, without a TTL.
  if stored.j then redis.call('HSET', key, 'j', 0) end
  redis.call('HDEL', key, 'n', 'd', 'a', 'f', 'x', 'h', 'i')
  return {'right', stored.n, stored.d, stored.a, stored.f, stored.x, stored.h or '', stored.i or '', stored.b or '', stored.j or ''}
end
if left > 0 then redis.call('HINCRBY', key, 'a', 1) else redis.call('HDEL', key, 'n', 'd', 'a', 'f', 'x') end
return {'wrong', math.max(left, 0)}
`

/* Race: a newer code may have been sent since; it stays, and the counts of both are added. */
const putBack = `${load}
local n, d, a, f, x, h, i, b, j = unpack(ARGV)
if not stored.n then redis.call('HSET', key, 'n', n, 'd', d, 'a', a, 'f', f, 'x', x) end
if h ~= '' then
  redis.call('HSET', key, 'h', h)
  redis.call('HINCRBY', key, 'i', i)
end
if b ~= '' and stored.b == b then redis.call('HINCRBY', key, 'j', j) end
if redis.call('PTTL', key) < 0 then redis.call('PEXPIRE', key, day) end
`

/** Codes in Redis, under `code:` and the key of the number. */
export function redisCodeStore (redis: Redis, { ttlMs, resendMs, sendsPerHour, sendsPerDay, maxAttempts }: CodeLimits): CodeStore {
  const script = (name: string, lua: string) => {
    const run = redisScript<[string, ...string[]]>(redis, name, lua)
    return (key: string, ...args: Array<string | number>) => run(`code:${key}`, ...args)
  }
  const scripts = {
    issue: script('codeIssue', issue),
    takeBack: script('codeTakeBack', takeBack),
    redeem: script('codeRedeem', redeem),
    putBack: script('codePutBack', putBack)
  }

  return {
    async issue (key, { nonce, digest }, now, isTest = false) {
      const [status, ...reply] = await scripts.issue(key, now, nonce, digest, ttlMs, resendMs, sendsPerHour, sendsPerDay, Number(isTest))
      if (status !== 'issued') return { status: status as 'too_soon' | 'too_many', retryAfterMs: Number(reply[0]) }
      const [issuedNonce, expiresAt, ...undo] = reply as [string, string, ...string[]]
      return { status, nonce: issuedNonce, expiresAt: Number(expiresAt), undo }
    },

    async takeBack (key, { nonce, undo }: Issued) {
      await scripts.takeBack(key, nonce, ...undo as string[])
    },

    async redeem (key, digest, now, testDigest = '') {
      const [status, ...reply] = await scripts.redeem(key, digest, now, maxAttempts, testDigest)
      if (status === 'right') return { status, undo: reply }
      return status === 'wrong' ? { status, attemptsRemaining: Number(reply[0]) } : { status: 'none' }
    },

    async putBack (key, undo) {
      await scripts.putBack(key, ...undo as string[])
    },

    async forget (key) {
      await answerOf(redis.hdel(`code:${key}`, 'n', 'd', 'a', 'f', 'x'))
    }
  }
}
