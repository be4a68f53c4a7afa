import { randomBytes } from 'node:crypto'
import type { TokenOptions } from '../auth/tokens/token.js'
import type { EnvReader } from './env.js'
import { readKey } from './keys.js'

/** Keys and lives of tokens. Without JWT_SECRET a key is generated, which ends with the process. */
export function readTokens (env: EnvReader, isProduction: boolean): TokenOptions {
  if (isProduction) env.require('JWT_SECRET')
  return {
    secret: readKey(env, 'JWT_SECRET', isProduction) ?? randomBytes(32).toString('base64'),
    secretPrevious: readKey(env, 'JWT_SECRET_PREVIOUS', isProduction),
    ttlSeconds: env.integer('JWT_TTL_SECONDS', 1800, 1, 31_536_000),
    sessionMaxSeconds: env.integer('SESSION_MAX_SECONDS', 15_552_000, 1, 3_153_600_000)
  }
}
