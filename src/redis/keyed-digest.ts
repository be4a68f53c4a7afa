import { createHmac } from 'node:crypto'

/** An HMAC-SHA-256 under `secret`. `label` separates the purposes of one key. */
export const keyedHash = (secret: string, label: string, ...parts: string[]) =>
  createHmac('sha256', secret).update([label, ...parts].join('\0')).digest()

/**
 * The first 128 bits of a keyed hash, as 22 characters of base64url. It replaces a phone number or client IP in Redis.
 */
export const keyedDigest = (secret: string, label: string, ...parts: string[]) =>
  keyedHash(secret, label, ...parts).subarray(0, 16).toString('base64url')
