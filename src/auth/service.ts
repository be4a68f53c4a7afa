import { randomUUID } from 'node:crypto'
import { isProblem, problem } from '../http/problems.js'
import type { Audit } from '../monitoring/logger.js'
import { isLanguage, markets, type Language, type MarketId } from '../phone/markets.js'
import type { Database } from '../db/database.js'
import { secretPicker, type CodeSecrets } from '../redis/code-secrets.js'
import type { User, UsersRepository } from '../users/repository.js'
import { deriveCode, digestCode, phoneKey, testPhoneKey } from './codes/code.js'
import type { CodeStore, Issued } from './codes/store.js'
import type { LogoutMarks } from './tokens/revocations.js'
import { phoneReader, sendFailure, type Guess, type PhoneOptions, type SendRequest } from './phone-input.js'
import { SmsRefused, type SmsContext, type SmsSender } from '../messages/index.js'
import { smsText, type MessageSettings } from '../messages/text.js'
import type { SmsGuard } from '../messages/pumping-guard.js'
import { leewaySeconds, type AuthenticatedUser } from './tokens/token.js'
import type { DailyMessages, Place } from '../messages/daily-maximum.js'
import type { GuessLimit } from '../limits/guesses.js'

/** How long after the end of its longest possible session a number is still known. */
const knownBeyondSessionSeconds = 30 * 86_400

interface AuthPorts {
  db: Database
  users: UsersRepository
  codes: CodeStore
  marks: LogoutMarks
  guesses: GuessLimit
  /** None where SMS_GUARD is off, or without Redis. */
  guard: SmsGuard | undefined
  /** None without SMS_MARKET_DAILY_MAX, or without Redis. */
  daily: DailyMessages | undefined
  sms: SmsSender
  /** Milliseconds since the epoch. */
  clock: () => number
  newNonce: () => string
}

interface AuthOptions extends CodeSecrets, MessageSettings, PhoneOptions {
  sessionMaxSeconds: number
  smsGuard: 'enforce' | 'observe' | 'off'
  smsMarketDailyMax: number | undefined
}

export type AuthService = ReturnType<typeof authService>

/** The flow of a login, free of HTTP. */
export function authService (config: AuthOptions, { db, users, codes, marks, guesses, guard, daily, sms, clock, newNonce }: AuthPorts) {
  const { codeSecret, codeSecretPrevious, testPhones } = config
  const readPhone = phoneReader(config)
  const keyOf = (secret: string, phone: string) => (testPhones.has(phone) ? testPhoneKey : phoneKey)(secret, phone)
  const pickSecret = secretPicker(config, codes.has)
  /** Under which secret and key a number goes in the store of codes. */
  async function secretOf (phone: string) {
    const secret = await pickSecret((one) => keyOf(one, phone))
    return { secret, key: keyOf(secret, phone) }
  }

  const knownMs = (config.sessionMaxSeconds + knownBeyondSessionSeconds) * 1000
  /** Whether the pumping guard passes the number of an account: its owner has proved it, and has logged in recently. */
  const isKnown = (account: Pick<User, 'isVerified' | 'lastLogin'> | undefined, now: number) =>
    account?.isVerified === true && account.lastLogin !== null && now - account.lastLogin.getTime() <= knownMs

  /** Asks the pumping guard about a send that is issued. Throws too_many_sends. */
  async function passGuard (send: Send, audit: Audit) {
    const verdict = await guard?.admit(send)
    if (!verdict) return
    const { phone, market } = send
    audit('guard_tripped', { phone }, { scope: verdict.scope, market, mode: config.smsGuard })
    if (config.smsGuard === 'enforce') throw problem('too_many_sends', { retryAfter: verdict.retryAfterSeconds })
  }

  /** Takes one of the messages that a market has in a day. Throws too_many_sends. */
  async function takePlace ({ phone, market, now }: Send, audit: Audit): Promise<Place | undefined> {
    const place = await daily?.take(market, now)
    if (place?.status === 'full') {
      audit('guard_tripped', { phone }, { scope: 'daily', market, mode: 'enforce' })
      throw problem('too_many_sends', { retryAfter: Math.ceil(place.retryAfterMs / 1000) })
    }
    if (place?.isWarning) audit('daily_max_near', { phone }, { market, max: config.smsMarketDailyMax })
    return place
  }

  /** Counts a send that is issued; one that is refused, or that cannot be counted, is taken back. Throws too_many_sends. */
  async function admit (send: Send, audit: Audit): Promise<Place | undefined> {
    try {
      await passGuard(send, audit)
      return await takePlace(send, audit).catch(async (error: unknown) => {
        await guard?.release(send)
        throw error
      })
    } catch (error) {
      // Nothing was sent: without this the number would wait for its cooldown.
      await codes.takeBack(send.key, send.issued)
      throw error
    }
  }

  /** Hands the message of a send that is issued to the provider. Throws too_many_sends, sms_failed, unsupported_phone, opted_out. */
  async function deliver ({ language, userId, context, ...send }: Send & Delivery, audit: Audit) {
    const { phone, market, key, issued } = send
    const place = await admit(send, audit)
    const id = randomUUID()
    try {
      const text = smsText(config, language, deriveCode(send.secret, phone, issued.nonce))
      await sms({ id, to: phone, text, market, language }, context)
    } catch (cause) {
      const failure = sendFailure(cause)
      audit('sms_failed', { userId, phone }, { message_id: id, reason: failure.problemCode })
      // After a time-out the message may still arrive: then its code must work.
      if (cause instanceof SmsRefused) {
        await codes.takeBack(key, issued)
        await guard?.release(send)
        if (place) await daily?.giveBack(place)
      }
      throw failure
    }
    audit('code_sent', { userId, phone }, { message_id: id, market, language })
  }

  /** Counts a login of an unknown number with the pumping guard, once a day. */
  async function countVerified ({ key, ...login }: Pick<Send, 'phone' | 'market' | 'key' | 'client'>) {
    const now = clock()
    if (guard && await codes.countVerified(key, now)) await guard.verified({ ...login, now })
  }

  /** Counts a guess against its client IP before a code is compared. Throws rate_limited. */
  async function beginGuess (phone: string, clientIp: string, audit: Audit) {
    const guess = await guesses.begin(clientIp, clock())
    if (guess.isAdmitted) return guess
    audit('limit_hit', { phone }, { limit: 'guesses' })
    throw problem('rate_limited', { retryAfter: Math.ceil(guess.retryAfterMs / 1000) })
  }

  return {
    /**
     * Sends a code to a number; a code that is still alive is sent again. To a test number nothing is sent.
     * Throws invalid_request, unsupported_phone, opted_out, resend_too_soon, too_many_sends, sms_failed, unavailable.
     */
    async sendCode ({ language, clientIp, traceparent, ...asked }: SendRequest, audit: Audit) {
      const { phone, market, testCode } = readPhone(asked.phone, asked.market)
      const account = await users.findByPhone(phone)
      const who = { userId: account?.id, phone }
      if (testCode) audit('test_phone', who, { action: 'send' })
      const { secret, key } = await secretOf(phone)
      const now = clock()
      const known = isKnown(account, now)
      const client = await guard?.clientGroup(clientIp) ?? ''
      const nonce = newNonce()
      const digest = digestCode(secret, phone, testCode ?? deriveCode(secret, phone, nonce))
      const issued = await codes.issue(key, { nonce, digest, client: known || testCode ? '' : client }, now, testCode !== undefined)
      if (issued.status !== 'issued') {
        audit('limit_hit', who, { limit: issued.status })
        throw problem(issued.status === 'too_soon' ? 'resend_too_soon' : 'too_many_sends',
          { retryAfter: Math.ceil(issued.retryAfterMs / 1000) })
      }

      if (!testCode) {
        const stored = account?.language
        const spoken = language ?? (isLanguage(stored) ? stored : markets[market].language)
        const send = { phone, market, client, secret, key, issued, now, isKnown: known }
        await deliver({ ...send, language: spoken, userId: account?.id, context: { traceparent } }, audit)
      }
      return { phone, market, language: language ?? markets[market].language, expiresInSeconds: Math.ceil((issued.expiresAt - now) / 1000) }
    },

    /**
     * Exchanges a code for a login. `sessionStart` is the last_login that it wrote, in seconds since the epoch.
     * Throws invalid_request, unsupported_phone, invalid_code, unavailable; rate_limited for a client IP with too many wrong
     * guesses, and after many logins and logouts within seconds.
     */
    async verifyCode ({ code, clientIp, ...asked }: Guess, audit: Audit) {
      const { phone, market, testCode } = readPhone(asked.phone, asked.market)
      if (testCode) audit('test_phone', { phone }, { action: 'verify' })
      const { settle } = await beginGuess(phone, clientIp, audit)
      const { secret, key } = await secretOf(phone)
      const redeemed = await codes.redeem(key, digestCode(secret, phone, code), clock(), testCode && digestCode(secret, phone, testCode))
      if (redeemed.status !== 'right') {
        const { status, ...left } = redeemed
        // The code is compared and counted: a log line without the user is better than a 503.
        const lookup = status === 'wrong' ? users.findByPhone(phone).catch(() => undefined) : undefined
        const [account] = await Promise.all([lookup, settle(status)])
        audit('wrong_code', { userId: account?.id, phone })
        throw problem('invalid_code', left)
      }
      try {
        // The code of a test number is no secret: it must not buy further wrong guesses.
        const [{ user, isNew }] = await Promise.all([users.login(phone, market), settle(testCode ? 'none' : 'right')])
        // The login stands, whether it is counted or not.
        if (redeemed.client) await countVerified({ phone, market, key, client: redeemed.client }).catch(() => undefined)
        audit('login', { userId: user.id, phone }, { is_new_user: isNew })
        return { user, isNew, market, sessionStart: epochSeconds(user.lastLogin) }
      } catch (error) {
        await codes.putBack(key, redeemed.undo)
        if (isProblem(error) && error.statusCode === 429) audit('limit_hit', { phone }, { limit: 'login' })
        throw error
      }
    },

    /**
     * Signs a user out on every device. The revocation is written before the COMMIT and counts once the row has changed, so a
     * failure of either store changes nothing. Throws invalid_token, unavailable.
     */
    async logout ({ id, sessionStart }: AuthenticatedUser, audit: Audit) {
      const phone = await db.inTurn(id, async (tx) => {
        const user = await users.logout(tx, id)
        if (!user) throw problem('invalid_token')
        const ended = epochSeconds(user.lastLogin)
        const isOwn = ended <= clock() / 1000 + leewaySeconds
        // A token of an earlier backend may be younger than last_login, which another system may have set far ahead. Half a
        // second more keeps the revocation different from every last_login, so that it counts at once.
        await marks.leave(id, isOwn && ended >= sessionStart ? ended : sessionStart + 0.5)
        return user.phone
      })
      audit('logout', { userId: id, phone })
    },

    /** Deletes an account, its addresses and its pending code. Throws account_in_use, unavailable; then nothing has changed. */
    async deleteAccount (userId: number, audit: Audit) {
      const phone = await db.inTurn(userId, async (tx) => {
        const user = await users.remove(tx, userId)
        if (!user) throw problem('invalid_token')
        for (const secret of [codeSecret, codeSecretPrevious]) if (secret) await codes.forget(keyOf(secret, user.phone))
        return user.phone
      })
      audit('account_deleted', { userId, phone })
    }
  }
}

interface Send {
  phone: string
  market: MarketId
  /** The group of the client IP that asks; empty where there is no guard. */
  client: string
  secret: string
  key: string
  issued: Issued
  now: number
  isKnown: boolean
}

interface Delivery {
  language: Language
  userId: number | undefined
  context: SmsContext
}

/** Whole seconds since the epoch; 0 where there is no time. */
const epochSeconds = (time: Date | null) => Math.floor((time?.getTime() ?? 0) / 1000)
