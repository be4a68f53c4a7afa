import { randomBytes } from 'node:crypto'
import { keyedDigest, keyedHash } from '../../redis/keyed-digest.js'

const codeDigits = 6

/** 96 random bits as 16 characters of base64url. */
export const newNonce = () => randomBytes(12).toString('base64url')

/**
 * The code of `nonce` for a number in E.164: six digits, reduced from 48 bits of an HMAC-SHA-256 as in HOTP
 * (RFC 4226, section 5.3); the bias of the reduction is below 2^-28.
 */
export function deriveCode (secret: string, phone: string, nonce: string): string {
  const value = keyedHash(secret, 'code', phone, nonce).readUIntBE(0, 6)
  return String(value % 10 ** codeDigits).padStart(codeDigits, '0')
}

/** What is kept of a code, to compare a guess with. */
export const digestCode = (secret: string, phone: string, code: string) => keyedDigest(secret, 'digest', phone, code)

/** The name a number goes by in Redis. */
export const phoneKey = (secret: string, phone: string) => keyedDigest(secret, 'phone', phone)

/** That of a test number; another one, so that its fixed code is gone once TEST_PHONES does not name it any more. */
export const testPhoneKey = (secret: string, phone: string) => keyedDigest(secret, 'test phone', phone)
