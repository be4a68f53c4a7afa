import { isUtf8 } from 'node:buffer'
import { isMarket, type MarketId } from '../../phone/markets.js'

export interface AuthenticatedUser {
  id: number
  market: MarketId
  /** The last_login that the login of this session wrote, in seconds since the epoch. */
  sessionStart: number
}

/** A token that was found good; all that can still change about it is that it expires. */
export interface VerifiedToken extends AuthenticatedUser {
  /** The end of the token or of its session, whichever comes first, in seconds since the epoch. */
  expiresAt: number
  /** Whether the start of the session is known: tokens of earlier backends have no `iat`. */
  isStartKnown: boolean
}

export interface Lifetimes {
  ttlSeconds: number
  sessionMaxSeconds: number
}

export interface TokenOptions extends Lifetimes {
  secret: string
  /** Accepted, signs nothing. */
  secretPrevious: string | undefined
}

/** How far the clocks of those who mint, verify and revoke tokens may differ. */
export const leewaySeconds = 60

/** The header of every token that the service mints. */
const ownHeader = Buffer.from('{"alg":"HS256","typ":"JWT"}').toString('base64url')

/** The last character of 32 bytes in base64url carries four bits; the other two must be zero (RFC 4648, section 3.5). */
const canonicalSignature = /^[A-Za-z0-9_-]{42}[AEIMQUYcgkosw048]$/

const isPositive = (value: unknown): value is number => Number.isSafeInteger(value) && (value as number) > 0

/** Whether a part is the one encoding of its bytes. The JSON inside may be written in any way: libraries differ. */
function isCanonical (part: string): boolean {
  const bytes = Buffer.from(part, 'base64url')
  return bytes.toString('base64url') === part && isUtf8(bytes)
}

/**
 * Checks what @fastify/jwt leaves open of a token whose signature it verified: encoding, header and claims
 * (CONTRACT, section 5; RFC 7519 and RFC 8725). `now` in seconds since the epoch. Undefined where anything is wrong.
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
  // A token for another service (RFC 7519, section 4.1.3), or one of another kind: a refresh token.
  if (aud !== undefined || use !== undefined) return undefined

  // Tokens of earlier backends have no iat. Those that live longer than JWT_TTL_SECONDS, because it was lowered, must not
  // become valid again just before their exp: a revocation may be over by then.
  const { iat = exp - ttlSeconds, auth_time: sessionStart = iat } = claims
  if (!isPositive(iat) || iat >= exp || exp - iat > ttlSeconds) return undefined
  if (!isPositive(sessionStart) || sessionStart > iat) return undefined
  const expiresAt = Math.min(exp, sessionStart + sessionMaxSeconds)
  return expiresAt > now ? { id, market, sessionStart, expiresAt, isStartKnown: claims.iat !== undefined } : undefined
}

/** A header of another issuer with our key: HS256, and no extension that a reader must know (RFC 7515, section 4.1.11). */
function isPlainHeader (part: string): boolean {
  const header = JSON.parse(Buffer.from(part, 'base64url').toString()) as Record<string, unknown>
  return header.alg === 'HS256' && header.crit === undefined && isCanonical(part)
}
