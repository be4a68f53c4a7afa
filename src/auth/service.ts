import { randomUUID } from 'node:crypto'
import type { Config } from '../config.js'
import { problem } from '../errors.js'
import type { Audit } from '../logger.js'
import { isLanguage, markets, parsePhone, type Language, type MarketId } from '../markets.js'
import type { Database } from '../plugins/database.js'
import type { UsersRepository } from '../users/repository.js'
import { deriveCode, digestCode, phoneKey } from './code.js'
import type { CodeStore, Issued } from './code-store.js'
import type { LogoutMarks } from './logout-marks.js'
import { SmsRefused, type SmsSender } from './sms/index.js'
import { smsText } from './sms/text.js'
import type { SmsGuard } from './sms-guard.js'
import type { AuthenticatedUser } from './token.js'

export interface AuthPorts {
  db: Database
  users: UsersRepository
  codes: CodeStore
  marks: LogoutMarks
  /** None where SMS_GUARD is off, or without Redis. */
  guard: SmsGuard | undefined
  sms: SmsSender
  /** Milliseconds since the epoch. */
  clock: () => number
  newNonce: () => string
}

export type AuthService = ReturnType<typeof authService>

/** The flow of a login, free of HTTP. */
export function authService (config: Config, { db, users, codes, marks, guard, sms, clock, newNonce }: AuthPorts) {
  const { codeSecret } = config

  /** Asks the traffic guard about a send that is issued; one that it stops is taken back. Throws too_many_sends. */
  async function passGuard ({ phone, market, key, issued, now, isKnown }: Send, audit: Audit) {
    const verdict = await guard?.admit(phone, market, now, isKnown).catch(async (error: unknown) => {
      // Nothing was sent: without this the number would wait for its cooldown.
      await codes.takeBack(key, issued)
      throw error
    })
    if (!verdict) return
    audit('guard_tripped', { phone }, { scope: verdict.scope, market, mode: config.smsGuard })
    if (config.smsGuard === 'observe') return
    await codes.takeBack(key, issued)
    throw problem('too_many_sends', { retryAfter: verdict.retryAfterSeconds })
  }

  return {
    /**
     * Sends a code to a number; a code that is still alive is sent again. `language` is what the request asks for.
     * Throws invalid_request, unsupported_phone, resend_too_soon, too_many_sends, sms_failed, unavailable.
     */
    async sendCode (input: string, language: Language | undefined, audit: Audit) {
      const { phone, market } = parsePhone(input)
      const known = await users.findByPhone(phone)
      const who = { userId: known?.id, phone }
      const key = phoneKey(codeSecret, phone)
      const now = clock()
      const nonce = newNonce()
      const digest = digestCode(codeSecret, phone, deriveCode(codeSecret, phone, nonce))
      const issued = await codes.issue(key, { nonce, digest }, now)
      if (issued.status !== 'issued') {
        audit('limit_hit', who, { limit: issued.status })
        throw problem(issued.status === 'too_soon' ? 'resend_too_soon' : 'too_many_sends',
          { retryAfter: Math.ceil(issued.retryAfterMs / 1000) })
      }

      const isKnown = known?.isVerified === true
      await passGuard({ phone, market, key, issued, now, isKnown }, audit)

      const code = deriveCode(codeSecret, phone, issued.nonce)
      const stored = known?.language
      const spoken = language ?? (isLanguage(stored) ? stored : markets[market].language)
      try {
        await sms({ id: randomUUID(), to: phone, text: smsText(config, spoken, code), market, language: spoken })
      } catch (cause) {
        audit('sms_failed', who)
        // After a time-out the message may still arrive: then its code must work.
        if (cause instanceof SmsRefused) {
          await codes.takeBack(key, issued)
          await guard?.release(phone, market, now, isKnown)
        }
        throw problem('sms_failed', { cause })
      }
      audit('code_sent', who, { market, language: spoken })
      return { phone, market, language: language ?? markets[market].language, expiresInSeconds: Math.ceil((issued.expiresAt - now) / 1000) }
    },

    /**
     * Trades a code for a login. `issuedAt` is the last_login it wrote, in seconds since the epoch.
     * Throws invalid_request, unsupported_phone, invalid_code, unavailable.
     */
    async verifyCode (input: string, code: string, audit: Audit) {
      const { phone, market } = parsePhone(input)
      const key = phoneKey(codeSecret, phone)
      const redeemed = await codes.redeem(key, digestCode(codeSecret, phone, code), clock())
      if (redeemed.status !== 'right') {
        audit('wrong_code', { phone })
        throw problem('invalid_code', redeemed.status === 'wrong' ? { attemptsRemaining: redeemed.attemptsRemaining } : {})
      }
      try {
        const { user, isNew, isFirst } = await users.login(phone, market)
        // The login stands, whether it is counted or not.
        if (isFirst) await guard?.verified(phone, market, clock()).catch(() => undefined)
        audit('login', { userId: user.id, phone }, { is_new_user: isNew })
        return { user, isNew, market, issuedAt: epochSeconds(user.lastLogin) }
      } catch (error) {
        await codes.putBack(key, redeemed.undo)
        throw error
      }
    },

    /**
     * Signs a user out on every device. The mark is left before the row is committed: without either, nothing has changed.
     */
    async logout ({ id, issuedAt }: AuthenticatedUser, audit: Audit) {
      const phone = await db.atomically(async (tx) => {
        const user = await users.logout(tx, id)
        if (!user) throw problem('invalid_token')
        // A token of an earlier system may be younger than the row says.
        await marks.leave(id, Math.max(epochSeconds(user.lastLogin), issuedAt))
        return user.phone
      })
      audit('logout', { userId: id, phone })
    },

    /** Deletes an account, its addresses and its pending code. Throws account_in_use, unavailable; then nothing has changed. */
    async deleteAccount (userId: number, audit: Audit) {
      const phone = await db.atomically(async (tx) => {
        const user = await users.remove(tx, userId)
        if (!user) throw problem('invalid_token')
        await codes.forget(phoneKey(codeSecret, user.phone))
        return user.phone
      })
      audit('account_deleted', { userId, phone })
    }
  }
}

interface Send {
  phone: string
  market: MarketId
  key: string
  issued: Issued
  now: number
  isKnown: boolean
}

/** Whole seconds since the epoch; 0 where there is no time. */
const epochSeconds = (time: Date | null) => Math.floor((time?.getTime() ?? 0) / 1000)
