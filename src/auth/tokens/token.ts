import { isUtf8 } from 'node:buffer'
import { isMarket, type MarketId } from '../../phone/markets.js'

export interface AuthenticatedUser {
  id: number
  market: MarketId
  /** The last_login that the login of this session wrote, in seconds since the epoch. */
  sessionStart: number
}

/** A token that passed every check except those that can change later: expiry, the active check and revocation. */
export interface VerifiedToken extends AuthenticatedUser {
  /** The end of the token or of its session, whichever comes first, in seconds since the epoch. */
  expiresAt: number
  /** Whether the token states the start of its session. Tokens of earlier backends have no `iat`. */
  isStartKnown: boolean
}

interface Lifetimes {
  ttlSeconds: number
  sessionMaxSeconds: number
}

export interface TokenOptions extends Lifetimes {
  secret: string
  /** Verifies tokens but signs none. */
  secretPrevious: string | undefined
}

/** Most seconds by which the clocks of the hosts that mint, verify and revoke tokens may differ. */
export const leewaySeconds = 60

/** The header of every token that the service mints. */
const ownHeader = Buffer.from('{"alg":"HS256","typ":"JWT"}').toString('base64url')

/** The last base64url character of 32 bytes carries four bits. The other two must be zero (RFC 4648, section 3.5). */
const canonicalSignature = /^[A-Za-z0-9_-]{42}[AEIMQUYcgkosw048]$/

const isPositive = (value: unknown): value is number => Number.isSafeInteger(value) && (value as number) > 0

/** Whether a part is the canonical base64url of UTF-8 text. Its JSON may have any form, because libraries differ. */
function isCanonical (part: string): boolean {
  const bytes = Buffer.from(part, 'base64url')
  return bytes.toString('base64url') === part && isUtf8(bytes)
}

/**
 * Checks what @fastify/jwt does not check in a token whose signature it has verified: encoding, header and claims
 * (CONTRACT, section 5; RFC 7519 and RFC 8725). `now` is in seconds since the epoch. Returns undefined if the token is
 * invalid.
 */
export function readToken (
  token: string, claims: Record<string, unknown>, now: number, { ttlSeconds, sessionMaxSeconds }: Lifetimes
): VerifiedToken | undefined {
  const [header = '', payload = '', signature = ''] = token.split('.')
  if (!canonicalSignature.test(signature) || !isCanonical(payload)) return undefined
  if (header !== ownHeader && !isPlainHeader(header)) return undefined

  const { user_id: id, market, exp, aud, use } = claims
  if (!isPositive(id) || !isMarket(market)) return undefined
  if (!isPositive(exp) || exp > now + ttlSeconds + leewaySeconds) return undefined
  // `aud` names another service (RFC 7519, section 4.1.3); `use` makes it a token of another kind, such as refresh.
  if (aud !== undefined || use !== undefined) return undefined

  // Tokens of earlier backends have no iat. If JWT_TTL_SECONDS is lowered, a token that lives longer must not become
  // valid again shortly before its exp: a revocation may have expired by then.
  const { iat = exp - ttlSeconds, auth_time: sessionStart = iat } = claims
  if (!isPositive(iat) || iat >= exp || exp - iat > ttlSeconds) return undefined
  if (!isPositive(sessionStart) || sessionStart > iat) return undefined
  const expiresAt = Math.min(exp, sessionStart + sessionMaxSeconds)
  return expiresAt > now ? { id, market, sessionStart, expiresAt, isStartKnown: claims.iat !== undefined } : undefined
}

/** Whether a header that another issuer made with our key has HS256 and no `crit` (RFC 7515, section 4.1.11). */
function isPlainHeader (part: string): boolean {
  const header = JSON.parse(Buffer.from(part, 'base64url').toString()) as Record<string, unknown>
  return header.alg === 'HS256' && header.crit === undefined && isCanonical(part)
}
