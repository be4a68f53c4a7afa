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

/** The digest of a code. The store keeps it instead of the code and compares the digests of guesses with it. */
export const digestCode = (secret: string, phone: string, code: string) => keyedDigest(secret, 'digest', phone, code)

/** The key of a number in the code store, which holds no phone number. */
export const phoneKey = (secret: string, phone: string) => keyedDigest(secret, 'phone', phone)

/** The key of a test number. It differs from phoneKey, so a number removed from TEST_PHONES has no live code. */
const testPhoneKey = (secret: string, phone: string) => keyedDigest(secret, 'test phone', phone)

/** Returns a function: the key of a number under a secret. `testPhones` has the numbers of TEST_PHONES. */
export const codeKeys = (testPhones: { has: (phone: string) => boolean }) => (secret: string, phone: string) =>
  (testPhones.has(phone) ? testPhoneKey : phoneKey)(secret, phone)
