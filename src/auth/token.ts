import type { Config } from '../config.js'
import { isMarket, type MarketId } from '../markets.js'

export interface AuthenticatedUser {
  id: number
  market: MarketId
  /** When the token was issued, in seconds since the epoch: the last_login that its login wrote. */
  issuedAt: number
}

/** A token that was found good; all that can still change about it is that it expires. */
export interface VerifiedToken extends AuthenticatedUser {
  /** The end of the token or of its session, whichever comes first, in seconds since the epoch. */
  expiresAt: number
}

export type Lifetimes = Pick<Config, 'jwtTtlSeconds' | 'sessionMaxSeconds'>

/** The largest id of a SERIAL column. */
const maxUserId = 2_147_483_647
/** How far a token may outlast the lifetime that is set, for clocks that differ. */
export const leewaySeconds = 60

const base64url = (json: unknown) => Buffer.from(JSON.stringify(json)).toString('base64url')

/** The header of every token we mint. */
const ownHeader = base64url({ alg: 'HS256', typ: 'JWT' })

/** The last character of 32 bytes in base64url carries four bits; the other two must be zero (RFC 4648, section 3.5). */
const canonicalSignature = /^[A-Za-z0-9_-]{42}[AEIMQUYcgkosw048]$/

const isSeconds = (value: unknown): value is number => Number.isSafeInteger(value) && (value as number) > 0

/**
 * Whether a segment is the one encoding of its JSON: canonical base64url, no white space, no member twice. Every library
 * of the field writes it so; anything else was made to be read differently by different readers.
 */
const isCanonical = (segment: string, json: unknown) => base64url(json) === segment

/**
 * Checks what @fastify/jwt leaves open of a token whose signature it verified: encoding, header and claims
 * (CONTRACT, section 5; RFC 7519 and RFC 8725). `now` in seconds since the epoch. Undefined where anything is wrong.
 */
export function readToken (
  token: string, claims: Record<string, unknown>, now: number, { jwtTtlSeconds: ttlSeconds, sessionMaxSeconds }: Lifetimes
): VerifiedToken | undefined {
  const [header = '', payload = '', signature = ''] = token.split('.')
  if (!canonicalSignature.test(signature) || !isCanonical(payload, claims)) return undefined
  if (header !== ownHeader && !isPlainHeader(header)) return undefined

  const { user_id: id, market, exp, nbf = 0, iat = Number(exp) - ttlSeconds } = claims
  if (!Number.isInteger(id) || (id as number) < 1 || (id as number) > maxUserId || !isMarket(market)) return undefined
  if (!isSeconds(exp) || exp <= now || exp > now + ttlSeconds + leewaySeconds) return undefined
  if (!isSeconds(iat) || iat >= exp || !Number.isSafeInteger(nbf) || (nbf as number) > now) return undefined
  // A token for somebody else (RFC 7519, section 4.1.3), or one that plays with prototypes.
  if (Object.hasOwn(claims, 'aud') || Object.hasOwn(claims, '__proto__')) return undefined
  const expiresAt = Math.min(exp, iat + sessionMaxSeconds)
  return expiresAt > now ? { id: id as number, market, issuedAt: iat, expiresAt } : undefined
}

/** A header of another issuer with our key: HS256, and no extension that a reader must know (RFC 7515, section 4.1.11). */
function isPlainHeader (segment: string): boolean {
  const header = JSON.parse(Buffer.from(segment, 'base64url').toString()) as Record<string, unknown>
  return header.alg === 'HS256' && !Object.hasOwn(header, 'crit') && !Object.hasOwn(header, '__proto__') && isCanonical(segment, header)
}
