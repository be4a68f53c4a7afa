import { randomUUID } from 'node:crypto'
import { Problem } from '../http/problems.js'
import type { Audit } from '../monitoring/audit.js'
import { isLanguage, markets, type Language, type MarketId } from '../phone/markets.js'
import type { Database } from '../db/database.js'
import { secretPicker, type CodeSecrets } from '../redis/code-secrets.js'
import type { User, UsersRepository } from '../users/repository.js'
import { codeKeys, deriveCode, digestCode } from './codes/code.js'
import type { CodeStore, Issued } from './codes/store.js'
import type { Revocations } from './tokens/revocations.js'
import { phoneReader, sendFailure, type Guess, type PhoneOptions, type SendRequest } from './phone-input.js'
import { SmsRefused, type SmsContext, type SmsSender } from '../messages/index.js'
import { smsText, type MessageOptions } from '../messages/text.js'
import type { PumpingGuard } from '../messages/pumping-guard.js'
import { leewaySeconds, type AuthenticatedUser } from './tokens/token.js'
import type { DailyMessages, Place } from '../messages/daily-maximum.js'
import type { GuessLimit } from '../limits/guesses.js'

/** How long a number stays known after its longest possible session has ended. */
const knownBeyondSessionSeconds = 30 * 86_400

interface AuthPorts {
  db: Database
  users: UsersRepository
  codes: CodeStore
  revocations: Revocations
  guesses: GuessLimit
  /** Undefined if SMS_GUARD is off, or without Redis. */
  guard: PumpingGuard | undefined
  /** Undefined without SMS_MARKET_DAILY_MAX, or without Redis. */
  daily: DailyMessages | undefined
  sms: SmsSender
  /** Milliseconds since the epoch. */
  clock: () => number
  newNonce: () => string
}

interface AuthOptions {
  phones: PhoneOptions
  message: MessageOptions
  secrets: CodeSecrets
  sessionMaxSeconds: number
}

export type AuthService = ReturnType<typeof authService>

/** The flow of login and logout, without HTTP. */
export function authService (config: AuthOptions, ports: AuthPorts) {
  const { db, users, codes, revocations, guesses, guard, daily, sms, clock, newNonce } = ports
  const readPhone = phoneReader(config.phones)
  const keyOf = codeKeys(config.phones.testPhones)
  const pickSecret = secretPicker(config.secrets, codes.has)
  /** The secret for a number (the current or the previous one), and the key of the number in the code store. */
  async function secretOf (phone: string) {
    const secret = await pickSecret((candidate) => keyOf(candidate, phone))
    return { secret, key: keyOf(secret, phone) }
  }

  const knownMs = (config.sessionMaxSeconds + knownBeyondSessionSeconds) * 1000
  /** Whether the pumping guard always admits the number: its owner verified it and logged in recently. */
  const isKnown = (account: Pick<User, 'isVerified' | 'lastLogin'> | undefined, now: number) =>
    account?.isVerified === true && account.lastLogin !== null && now - account.lastLogin.getTime() <= knownMs

  /** Counts an issued send with the pumping guard. Throws too_many_sends if the guard refuses it. */
  async function passGuard (send: Send, audit: Audit) {
    const verdict = await guard?.admit(send)
    if (!verdict) return
    const { phone, market } = send
    audit('guard_tripped', { phone }, { scope: verdict.scope, market, mode: verdict.mode })
    if (verdict.mode === 'enforce') throw new Problem('too_many_sends', { retryAfter: verdict.retryAfterSeconds })
  }

  /** Counts a message in the daily maximum of its market. Throws too_many_sends if the maximum is reached. */
  async function takePlace ({ phone, market, now }: Send, audit: Audit): Promise<Place | undefined> {
    const place = await daily?.take(market, now)
    if (place?.status === 'full') {
      audit('guard_tripped', { phone }, { scope: 'daily', market, mode: 'enforce' })
      throw new Problem('too_many_sends', { retryAfter: Math.ceil(place.retryAfterMs / 1000) })
    }
    if (place?.isWarning) audit('daily_max_near', { phone }, { market, max: daily?.max })
    return place
  }

  /** Counts an issued send, and cancels it if it is refused or cannot be counted. Throws too_many_sends. */
  async function admit (send: Send, audit: Audit): Promise<Place | undefined> {
    try {
      await passGuard(send, audit)
      return await takePlace(send, audit).catch(async (error: unknown) => {
        await guard?.release(send)
        throw error
      })
    } catch (error) {
      // No message was sent: without the cancel, the number would have a cooldown.
      await codes.cancel(send.key, send.issued)
      throw error
    }
  }

  /** Sends the message of an issued send. Throws too_many_sends, sms_failed, unsupported_phone, opted_out. */
  async function deliver ({ language, userId, context, ...send }: Send & Delivery, audit: Audit) {
    const { phone, market, key, issued } = send
    const place = await admit(send, audit)
    const id = randomUUID()
    try {
      const text = smsText(config.message, language, deriveCode(send.secret, phone, issued.nonce))
      await sms({ id, to: phone, text, market, language }, context)
    } catch (cause) {
      const failure = sendFailure(cause)
      audit('sms_failed', { userId, phone }, { message_id: id, reason: failure.problemCode })
      // After a timeout the message may still arrive: its code must work then.
      if (cause instanceof SmsRefused) {
        await codes.cancel(key, issued)
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

  /** Counts a guess against its client IP before its code is compared. Throws rate_limited. */
  async function beginGuess (phone: string, clientIp: string, audit: Audit) {
    const guess = await guesses.begin(clientIp, clock())
    if (guess.isAdmitted) return guess
    audit('limit_hit', { phone }, { limit: 'guesses' })
    throw new Problem('rate_limited', { retryAfter: Math.ceil(guess.retryAfterMs / 1000) })
  }

  return {
    /**
     * Sends a code to a number, the live code again if there is one. A test number gets no message.
     * Throws invalid_request, unsupported_phone, opted_out, resend_too_soon, too_many_sends, sms_failed, unavailable.
     */
    async sendCode ({ language, clientIp, traceparent, ...input }: SendRequest, audit: Audit) {
      const { phone, market, testCode } = readPhone(input.phone, input.market)
      const account = await users.findByPhone(phone)
      const who = { userId: account?.id, phone }
      if (testCode) audit('test_phone', who, { action: 'send' })
      const { secret, key } = await secretOf(phone)
      const now = clock()
      const known = isKnown(account, now)
      const client = await guard?.clientGroup(clientIp) ?? ''
      const nonce = newNonce()
      const digest = digestCode(secret, phone, testCode ?? deriveCode(secret, phone, nonce))
      const candidate = { nonce, digest, client: known || testCode ? '' : client }
      const issued = await codes.issue(key, candidate, now, testCode !== undefined)
      if (issued.status !== 'issued') {
        audit('limit_hit', who, { limit: issued.status })
        throw new Problem(issued.status === 'too_soon' ? 'resend_too_soon' : 'too_many_sends',
          { retryAfter: Math.ceil(issued.retryAfterMs / 1000) })
      }

      if (!testCode) {
        const stored = account?.language
        const spoken = language ?? (isLanguage(stored) ? stored : markets[market].language)
        const send = { phone, market, client, secret, key, issued, now, isKnown: known }
        await deliver({ ...send, language: spoken, userId: account?.id, context: { traceparent } }, audit)
      }
      const expiresInSeconds = Math.ceil((issued.expiresAt - now) / 1000)
      return { phone, market, language: language ?? markets[market].language, expiresInSeconds }
    },

    /**
     * Exchanges a code for a login. `sessionStart` is the last_login that the login wrote, in seconds since the epoch.
     * Throws invalid_request, unsupported_phone, invalid_code, unavailable. Throws rate_limited for a client IP with
     * too many wrong guesses, and after many logins and logouts within seconds.
     */
    async verifyCode ({ code, clientIp, ...input }: Guess, audit: Audit) {
      const { phone, market, testCode } = readPhone(input.phone, input.market)
      if (testCode) audit('test_phone', { phone }, { action: 'verify' })
      const { settle } = await beginGuess(phone, clientIp, audit)
      const { secret, key } = await secretOf(phone)
      const testDigest = testCode && digestCode(secret, phone, testCode)
      const redeemed = await codes.redeem(key, digestCode(secret, phone, code), clock(), testDigest)
      if (redeemed.status !== 'right') {
        const { status, ...attempts } = redeemed
        // The guess is compared and counted by now: a log line without the user is better than a 503.
        const lookup = status === 'wrong' ? users.findByPhone(phone).catch(() => undefined) : undefined
        const [account] = await Promise.all([lookup, settle(status)])
        audit('wrong_code', { userId: account?.id, phone })
        throw new Problem('invalid_code', attempts)
      }
      try {
        // The code of a test number is not secret, so a right one must not allow more wrong guesses.
        const [{ user, isNew }] = await Promise.all([users.login(phone, market), settle(testCode ? 'none' : 'right')])
        // The login is valid even if the pumping guard cannot count it.
        if (redeemed.client) await countVerified({ phone, market, key, client: redeemed.client }).catch(() => undefined)
        audit('login', { userId: user.id, phone }, { is_new_user: isNew })
        return { user, isNew, market, sessionStart: epochSeconds(user.lastLogin) }
      } catch (error) {
        await codes.restore(key, redeemed.undo)
        if (error instanceof Problem && error.statusCode === 429) audit('limit_hit', { phone }, { limit: 'login' })
        throw error
      }
    },

    /**
     * Signs a user out on every device. The revocation is written before the COMMIT and applies once the row has
     * changed, so if either store fails, nothing changes. Throws invalid_token, unavailable.
     */
    async logout ({ id, sessionStart }: AuthenticatedUser, audit: Audit) {
      const phone = await db.inTurn(id, async (tx) => {
        const user = await users.logout(tx, id)
        if (!user) throw new Problem('invalid_token')
        const ended = epochSeconds(user.lastLogin)
        const isOwn = ended <= clock() / 1000 + leewaySeconds
        // A token of an earlier backend may be newer than last_login, and another system may have set last_login far
        // ahead. The half second makes the revocation differ from every last_login, so it applies at once.
        await revocations.revokeUntil(id, isOwn && ended >= sessionStart ? ended : sessionStart + 0.5)
        return user.phone
      })
      audit('logout', { userId: id, phone })
    }
  }
}

interface Send {
  phone: string
  market: MarketId
  /** The client group of the client IP. Empty without a pumping guard. */
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

/** Whole seconds since the epoch, 0 for null. */
const epochSeconds = (time: Date | null) => Math.floor((time?.getTime() ?? 0) / 1000)
