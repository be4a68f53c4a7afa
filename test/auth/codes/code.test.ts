import fc from 'fast-check'
import t from 'tap'
import { deriveCode, digestCode, newNonce, phoneKey } from '../../../src/auth/codes/code.js'

const secret = 'a-secret-of-thirty-two-bytes-or-so'
const phone = '+996555100000'
const nonce = 'AAAAAAAAAAAAAAAA'

// The expected values come from another implementation of HMAC-SHA-256, the one of Python.
t.test('every replica and every version derives the same code, digest and key', async (t) => {
  t.equal(deriveCode(secret, phone, nonce), '005296')
  t.equal(digestCode(secret, phone, '005296'), 'B5Es8dwMGxZX9clZXSJPSQ')
  t.equal(phoneKey(secret, phone), '5K6uMfdLo1Mra1tkEkQgLQ')
})

t.test('a derived code has six digits and is the same every time', async () => {
  fc.assert(fc.property(fc.string(), fc.string(), fc.string(), (secret, phone, nonce) => {
    const code = deriveCode(secret, phone, nonce)
    return /^[0-9]{6}$/.test(code) && code === deriveCode(secret, phone, nonce)
  }))
})

t.test('a code depends on the secret, the number and the nonce', async (t) => {
  const others = [
    deriveCode(`${secret}.`, phone, nonce),
    deriveCode(secret, '+996555100001', nonce),
    deriveCode(secret, phone, 'AAAAAAAAAAAAAAAB')
  ]
  t.strictSame(others.filter((code) => code === deriveCode(secret, phone, nonce)), [])
})

t.test('all codes are equally likely: the first and last digits of 100,000 codes are evenly distributed', async (t) => {
  const first = Array<number>(10).fill(0)
  const last = Array<number>(10).fill(0)
  for (let i = 0; i < 100_000; i++) {
    const code = deriveCode(secret, phone, String(i))
    first[Number(code[0])]!++
    last[Number(code[5])]!++
  }
  // Five standard deviations of a binomial distribution with n = 100,000 and p = 0.1.
  for (const count of [...first, ...last]) t.ok(Math.abs(count - 10_000) < 475, String(count))
})

t.test('the digest of a code has 128 bits, which depend on the secret, the number and the code', async (t) => {
  const digest = digestCode(secret, phone, '123456')
  t.match(digest, /^[A-Za-z0-9_-]{22}$/)
  const all = [
    digest,
    digestCode(`${secret}.`, phone, '123456'),
    digestCode(secret, '+996555100001', '123456'),
    digestCode(secret, phone, '123457')
  ]
  t.equal(new Set(all).size, all.length)
})

t.test('the key of a number has 128 bits, which depend on the secret and differ from digests of codes', async (t) => {
  t.match(phoneKey(secret, phone), /^[A-Za-z0-9_-]{22}$/)
  const all = [
    phoneKey(secret, phone),
    phoneKey(`${secret}.`, phone),
    phoneKey(secret, '+996555100001'),
    digestCode(secret, phone, ''),
    digestCode(secret, '', phone)
  ]
  t.equal(new Set(all).size, all.length)
})

t.test('a nonce has 96 bits and never repeats', async (t) => {
  const nonces = Array.from({ length: 100_000 }, newNonce)
  t.equal(new Set(nonces).size, nonces.length)
  t.ok(nonces.every((nonce) => /^[A-Za-z0-9_-]{16}$/.test(nonce)))
})
