import { hkdfSync } from 'node:crypto'
import type { CodeLimits } from '../auth/codes/store.js'
import type { CodeSecrets } from '../redis/code-secrets.js'
import type { EnvReader } from './env.js'
import { readKey } from './keys.js'

export function readCodes (env: EnvReader): CodeLimits {
  return {
    ttlMs: env.integer('CODE_TTL_SECONDS', 300, 1, 600) * 1000,
    resendMs: env.integer('CODE_RESEND_SECONDS', 60, 1, 3600) * 1000,
    sendsPerHour: env.integer('CODE_SENDS_PER_HOUR', 5, 1, 1_000_000),
    sendsPerDay: env.integer('CODE_SENDS_PER_DAY', 10, 1, 1_000_000),
    maxAttempts: env.integer('CODE_MAX_ATTEMPTS', 5, 1, 100),
    guessesPerDay: env.integer('CODE_GUESSES_PER_DAY', 50, 1, 1_000_000)
  }
}

/**
 * The keys of the HMACs over codes, phone numbers and client IPs. Without CODE_SECRET the current key is derived from
 * JWT_SECRET.
 */
export function readCodeSecrets (
  env: EnvReader, isProduction: boolean, jwtSecret: string
): CodeSecrets & { isDerived: boolean } {
  const secret = readKey(env, 'CODE_SECRET', isProduction)
  return {
    // RFC 5869; the label keeps this key apart from the one it comes from.
    current: secret ?? Buffer.from(hkdfSync('sha256', jwtSecret, '', 'phone-auth code', 32)).toString('base64'),
    previous: readKey(env, 'CODE_SECRET_PREVIOUS', isProduction),
    isDerived: secret === undefined
  }
}
