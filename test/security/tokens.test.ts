import { createHmac, createPublicKey, generateKeyPairSync, randomBytes } from 'node:crypto'
import t, { type Test } from 'tap'
import { readToken } from '../../src/auth/tokens/token.js'
import { claimsOf, encode, mint, ownHeader, signTexts } from '../helpers/forge.js'
import { newPhone, testService } from '../helpers/service.js'

const alphabet = 'ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_'
/** Sets the unused low bits of the last character. */
const unusedBits = (segment: string, bits = 1) =>
  segment.slice(0, -1) + alphabet[alphabet.indexOf(segment.at(-1) as string) | bits]

async function signedIn (t: Test, env: Record<string, string> = {}) {
  const service = await testService(t, { env })
  const { user, token } = await service.login(newPhone('us'))
  return { service, token, user, claims: claimsOf(token), key: service.env.JWT_SECRET as string }
}

t.test('a forged token is never accepted, and every refusal looks the same', async (t) => {
  const { service, token, claims, key } = await signedIn(t)
  const [header, payload, signature] = token.split('.') as [string, string, string]
  const json = JSON.stringify(claims)
  const withClaims = (changes: object) => mint({ ...claims, ...changes }, key)
  const withHeader = (changes: object) => mint(claims, key, { ...ownHeader, ...changes })
  const without = (claim: string) =>
    mint(Object.fromEntries(Object.entries(claims).filter(([name]) => name !== claim)), key)
  const now = Math.floor(Date.now() / 1000)
  const { publicKey } = generateKeyPairSync('rsa', { modulusLength: 2048 })
  const publicPem = publicKey.export({ type: 'spki', format: 'pem' }).toString()
  const jwk = createPublicKey(publicPem).export({ format: 'jwk' })
  const attackerKey = randomBytes(32).toString('base64')

  const forged: Record<string, string> = {
    'another key': mint(claims, attackerKey),
    'an empty key': mint(claims, ''),
    'a truncated key': mint(claims, key.slice(0, -1)),
    'the key in upper case': mint(claims, key.toUpperCase()),
    'no signature': `${header}.${payload}.`,
    'only two parts': `${header}.${payload}`,
    'four parts': `${token}.${signature}`,
    'five parts, as JWE has': `${token}.${signature}.${signature}`,
    'only dots': '..',
    'one word': 'token',
    'the signature of another payload':
      `${header}.${encode(JSON.stringify({ ...claims, user_id: claims.user_id + 1 }))}.${signature}`,
    'the first byte of the signature changed':
      `${header}.${payload}.${signature.startsWith('A') ? 'B' : 'A'}${signature.slice(1)}`,
    'a truncated signature': `${header}.${payload}.${signature.slice(0, -4)}`,
    'a longer signature': `${header}.${payload}.${signature}AAAA`,
    'unused bits in the signature (1)': `${header}.${payload}.${unusedBits(signature, 1)}`,
    'unused bits in the signature (2)': `${header}.${payload}.${unusedBits(signature, 2)}`,
    'unused bits in the signature (3)': `${header}.${payload}.${unusedBits(signature, 3)}`,
    'a padded signature': `${token}=`,
    'standard base64 in the signature': mintUntil(claims, key, (s) => /[-_]/.test(s))
      .replace(/[^.]*$/, (s) => s.replace(/-/g, '+').replace(/_/g, '/')),
    'padding in the payload': signRaw(header, `${payload}=`, key),
    'padding in the header': signRaw(`${header}==`, payload, key),
    'unused bits in the payload': signRaw(header, unusedBits(encode(json + ' '.repeat((4 - json.length % 3) % 3)), 1),
      key),
    'a byte order mark before the payload': signTexts(JSON.stringify(ownHeader), `\ufeff${json}`, key),
    'bytes that are not UTF-8 in the payload': signRaw(header,
      encode(Buffer.from(json.replace('{', '{"device":"\xff",'), 'latin1')), key),
    'bytes that are not UTF-8 in the header': signRaw(encode(Buffer.from('{"alg":"HS256","kid":"\xff"}', 'latin1')),
      payload, key),
    'alg none': `${encode('{"alg":"none","typ":"JWT"}')}.${payload}.`,
    'alg None': `${encode('{"alg":"None","typ":"JWT"}')}.${payload}.`,
    'alg NONE': `${encode('{"alg":"NONE","typ":"JWT"}')}.${payload}.`,
    'alg nOnE': `${encode('{"alg":"nOnE","typ":"JWT"}')}.${payload}.`,
    'alg none with a valid signature': withHeader({ alg: 'none' }),
    'alg missing': mint(claims, key, { typ: 'JWT' }),
    'alg empty': withHeader({ alg: '' }),
    'alg null': withHeader({ alg: null }),
    'alg a list': withHeader({ alg: ['HS256'] }),
    'alg in lower case': withHeader({ alg: 'hs256' }),
    'HS384 with the right key': signTexts('{"alg":"HS384","typ":"JWT"}', json, key, 'sha384'),
    'HS512 with the right key': signTexts('{"alg":"HS512","typ":"JWT"}', json, key, 'sha512'),
    'HS256 named, HS512 signed': signTexts(JSON.stringify(ownHeader), json, key, 'sha512'),
    'RS256 named, signed with our key': withHeader({ alg: 'RS256' }),
    'RS256 signed as HS256 with a public key': mint(claims, publicPem, { alg: 'RS256', typ: 'JWT' }),
    'HS256 with a public key': mint(claims, publicPem),
    'ES256 named': withHeader({ alg: 'ES256' }),
    'EdDSA named': withHeader({ alg: 'EdDSA' }),
    'an embedded jwk': mint(claims, attackerKey, { ...ownHeader, jwk: { kty: 'oct', k: encode(attackerKey) } }),
    'an embedded RSA jwk': mint(claims, publicPem, { ...ownHeader, jwk }),
    'jku, x5u and kid that point elsewhere': mint(claims, attackerKey,
      { ...ownHeader, jku: 'http://127.0.0.1:1/', x5u: 'http://127.0.0.1:1/', kid: '../../dev/null' }),
    'kid with SQL': mint(claims, '', { ...ownHeader, kid: "' UNION SELECT ''--" }),
    'crit with an unknown extension': withHeader({ crit: ['exp2'], exp2: 1 }),
    'crit empty': withHeader({ crit: [] }),
    'crit null': withHeader({ crit: null }),
    'crit b64': withHeader({ crit: ['b64'], b64: false }),
    'a header that is a list': signTexts('["HS256"]', json, key),
    'a header that is text': signTexts('"HS256"', json, key),
    'a header that is null': signTexts('null', json, key),
    'a payload that is a list': signTexts(JSON.stringify(ownHeader), `[${json}]`, key),
    'a payload that is text': signTexts(JSON.stringify(ownHeader), JSON.stringify(json), key),
    'a payload that is a number': signTexts(JSON.stringify(ownHeader), '19', key),
    'a payload that is null': signTexts(JSON.stringify(ownHeader), 'null', key),
    'a payload that is not JSON': signTexts(JSON.stringify(ownHeader), '{user_id:1}', key),
    'an empty payload': signTexts(JSON.stringify(ownHeader), '', key),
    'an empty object': mint({}, key),
    'claims under __proto__ only': signTexts(JSON.stringify(ownHeader), `{"__proto__":${json}}`, key),
    'user_id missing': without('user_id'),
    'user_id as text': withClaims({ user_id: String(claims.user_id) }),
    'user_id null': withClaims({ user_id: null }),
    'user_id true': withClaims({ user_id: true }),
    'user_id a list': withClaims({ user_id: [claims.user_id] }),
    'user_id an object': withClaims({ user_id: { id: claims.user_id } }),
    'user_id zero': withClaims({ user_id: 0 }),
    'user_id negative': withClaims({ user_id: -claims.user_id }),
    'user_id a fraction': withClaims({ user_id: claims.user_id + 0.5 }),
    'user_id above the largest safe integer': withClaims({ user_id: 2 ** 60 }),
    'user_id above the largest safe integer by one': withClaims({ user_id: 2 ** 53 }),
    'user_id without a user': withClaims({ user_id: 2_147_483_647 }),
    'user_id without a user, above the range of INTEGER': withClaims({ user_id: 2_147_483_648 }),
    'user_id without a user, the largest safe integer': withClaims({ user_id: 2 ** 53 - 1 }),
    'market missing': without('market'),
    'market unknown': withClaims({ market: 'xx' }),
    'market of the prototype': withClaims({ market: 'constructor' }),
    'market in upper case': withClaims({ market: 'US' }),
    'market null': withClaims({ market: null }),
    'market a number': withClaims({ market: 1 }),
    'market a list': withClaims({ market: ['us'] }),
    'exp missing': without('exp'),
    'exp now': withClaims({ exp: now }),
    'exp past': withClaims({ exp: now - 1, iat: now - 1801 }),
    'exp too far in the future': withClaims({ iat: now + 600, exp: now + 1800 + 600 }),
    'exp more than a TTL after iat': withClaims({ iat: claims.exp - 1801 }),
    'exp more than a TTL after iat, about to expire': withClaims({ iat: now - 1800 + 60, exp: now + 61 }),
    'exp in milliseconds': withClaims({ exp: claims.exp * 1000 }),
    'exp a fraction': withClaims({ exp: claims.exp + 0.5 }),
    'exp as text': withClaims({ exp: String(claims.exp) }),
    'exp null': withClaims({ exp: null }),
    'exp true': withClaims({ exp: true }),
    'exp a list': withClaims({ exp: [claims.exp] }),
    'exp infinite': signTexts(JSON.stringify(ownHeader), json.replace(/"exp":\d+/, '"exp":1e999'), key),
    'iat as text': withClaims({ iat: String(claims.iat) }),
    'iat null': withClaims({ iat: null }),
    'iat a fraction': withClaims({ iat: claims.iat + 0.5 }),
    'iat negative': withClaims({ iat: -1 }),
    'iat after exp': withClaims({ iat: claims.exp + 1 }),
    'iat zero': withClaims({ iat: 0, exp: 1800 }),
    'auth_time after iat': withClaims({ auth_time: claims.iat + 1 }),
    'auth_time as text': withClaims({ auth_time: String(claims.iat) }),
    'auth_time null': withClaims({ auth_time: null }),
    'auth_time zero': withClaims({ auth_time: 0 }),
    'auth_time negative': withClaims({ auth_time: -1 }),
    'auth_time a fraction': withClaims({ auth_time: claims.iat - 0.5 }),
    'a refresh token': withClaims({ use: 'refresh' }),
    'a token of another use': withClaims({ use: null }),
    'nbf in the future': withClaims({ nbf: now + 60 }),
    'nbf as text': withClaims({ nbf: '0' }),
    'nbf null': withClaims({ nbf: null }),
    'aud of another service': withClaims({ aud: 'billing' }),
    'aud null': withClaims({ aud: null }),
    'aud a list': withClaims({ aud: [] }),
    'the JSON serialization': JSON.stringify({ protected: header, payload, signature }),
    'a percent-encoded token': encodeURIComponent(`${token}=`),
    'a token in quotes': `"${token}"`,
    'a line break inside': `${token.slice(0, 20)}%0A${token.slice(20)}`
  }
  t.ok(Object.keys(forged).length >= 100)

  t.equal((await service.request('GET', '/api/v1/users/me', { token })).status, 200, 'the token itself is valid')
  const refusal = async (forgery: string) => {
    const { status, headers, body } = await service.request('GET', '/api/v1/users/me', { token: forgery })
    return {
      status,
      code: body.code,
      challenge: headers.get('www-authenticate'),
      members: Object.keys(body),
      detail: body.detail
    }
  }
  const expected = await refusal(mint(claims, attackerKey))
  for (const [attack, forgery] of Object.entries(forged)) {
    const response = await refusal(forgery)
    if (response.status === 400) t.equal(response.code, 'bad_request', attack)
    else t.strictSame(response, expected, attack)
    const gateway = await service.request('GET', '/auth/verify-token', { token: forgery })
    t.equal(gateway.status, 401, `${attack}, at verify-token`)
  }
})

/** Signs segments without encoding them. */
function signRaw (header: string, payload: string, key: string) {
  return `${header}.${payload}.${createHmac('sha256', key).update(`${header}.${payload}`).digest('base64url')}`
}

/** Varies iat until the signature fits. */
function mintUntil (claims: { iat: number }, key: string, wanted: (signature: string) => boolean) {
  for (let iat = claims.iat; ; iat--) {
    const token = mint({ ...claims, iat, exp: iat + 1800 }, key)
    if (wanted(token.split('.')[2] as string)) return token
  }
}

t.test('a token expires in the second of its exp, at most a minute after a TTL from now', async (t) => {
  const now = 1_800_000_000
  const read = (exp: number) => {
    const claims = { user_id: 19, market: 'us', exp }
    return readToken(mint(claims, 'key'), claims, now, { ttlSeconds: 1800, sessionMaxSeconds: 15_552_000 })
  }
  t.equal(read(now), undefined)
  t.strictSame(read(now + 1),
    { id: 19, market: 'us', sessionStart: now + 1 - 1800, expiresAt: now + 1, isStartKnown: false })
  t.strictSame(read(now + 1860),
    { id: 19, market: 'us', sessionStart: now + 60, expiresAt: now + 1860, isStartKnown: false })
  t.equal(read(now + 1861), undefined)
})

t.test('tokens of an earlier backend with the same key are accepted', async (t) => {
  const { service, claims, key } = await signedIn(t)
  const { user_id: id, market, exp } = claims
  const accepted: Record<string, string> = {
    'without iat': mint({ user_id: id, market, exp }, key),
    'with another order in the header': mint(claims, key, { typ: 'JWT', alg: 'HS256' }),
    'with only alg in the header': mint(claims, key, { alg: 'HS256' }),
    'with an unused kid': mint(claims, key, { ...ownHeader, kid: 'old' }),
    'with an unknown claim': mint({ ...claims, device: 'phone' }, key),
    'with nbf in the past': mint({ ...claims, nbf: claims.iat }, key),
    'with iss': mint({ ...claims, iss: 'https://id.example' }, key),
    'with auth_time, as after a renewal': mint({ ...claims, auth_time: claims.iat }, key),
    'with a shorter life': mint({ ...claims, exp: claims.exp - 600 }, key)
  }
  for (const [kind, token] of Object.entries(accepted)) {
    t.equal((await service.request('GET', '/auth/verify-token', { token })).status, 200, kind)
  }
})

t.test('a token is accepted with the JSON of any library', async (t) => {
  const { service, claims, key } = await signedIn(t)
  const header = JSON.stringify(ownHeader)
  const json = JSON.stringify({ ...claims, name: 'Айгүл/Q&A' })
  const written: Record<string, string> = {
    'PyJWT escapes non-ASCII characters': signTexts(header,
      json.replace(/[^ -~]/g, (c) => `\\u0${c.charCodeAt(0).toString(16)}`), key),
    'PHP escapes the slash': signTexts(header, json.replace('/', '\\/'), key),
    'Go escapes the ampersand': signTexts(header, json.replace('&', '\\u0026'), key),
    'spaces after commas and colons': signTexts('{"alg": "HS256", "typ": "JWT"}',
      json.replace(/([:,])(?=["\d])/g, '$1 '), key),
    'several lines': signTexts(JSON.stringify(ownHeader, null, 2), JSON.stringify(claims, null, '\t'), key),
    'white space around': signTexts(` ${header}\r\n`, `\n${json} `, key),
    'members in another order': mint(Object.fromEntries(Object.entries(claims).reverse()), key),
    'an escaped member name': signTexts(header.replace('alg', '\\u0061lg'), json.replace('user_id', 'user\\u005fid'),
      key),
    'numbers with a zero fraction': signTexts(header, json.replace(/(\d),/g, '$1.0,'), key)
  }

  for (const [kind, token] of Object.entries(written)) {
    const { status, body } = await service.request('GET', '/auth/verify-token', { token })
    t.strictSame([status, body.user_id], [200, claims.user_id], kind)
  }
})

t.test('a token counts only in Authorization: Bearer, in any case', async (t) => {
  const { service, token } = await signedIn(t)
  const get = async (headers: Record<string, string>, path = '/api/v1/users/me') =>
    (await service.request('GET', path, { headers })).status
  t.equal(await get({ authorization: `bearer ${token}` }), 200)
  t.equal(await get({ authorization: `BEARER ${token}` }), 200)
  const malformed = [
    `Bearer  ${token}`, `Bearer\t${token}`, `Bearer ${token} x`, `Bearer ${token},${token}`, `Bearer ${token}; x`,
    `Bearer "${token}"`
  ]
  const others = [`Token ${token}`, `Basic ${token}`, token, 'Bearer']
  for (const authorization of [...malformed, ...others]) {
    t.equal(await get({ authorization }), malformed.includes(authorization) ? 400 : 401,
      authorization.replace(token, '…'))
    t.equal(await get({ authorization }, '/auth/verify-token/x'), 401,
      `${authorization.replace(token, '…')} at verify-token`)
  }
  t.equal(await get({}, `/api/v1/users/me?access_token=${token}`), 401, 'not in the query')
  t.equal(await get({ cookie: `token=${token}; access_token=${token}` }), 401, 'not in a cookie')
  t.equal(await get({ 'x-access-token': token }), 401, 'not in another header')
})

t.test('JWT_SECRET_PREVIOUS verifies tokens but signs none', async (t) => {
  const { service, token, user } = await signedIn(t)
  const rotated = await testService(t, {
    database: service.database,
    env: { JWT_SECRET_PREVIOUS: service.env.JWT_SECRET as string, CODE_SECRET: service.env.CODE_SECRET as string }
  })
  t.equal((await rotated.request('GET', '/auth/verify-token', { token })).status, 200)
  const next = await rotated.login(user.phone)
  t.equal((await service.request('GET', '/auth/verify-token', { token: next.token })).status, 401,
    'the new key signs a new token')
  t.equal((await rotated.request('GET', '/auth/verify-token',
    { token: mint({ user_id: user.id, market: 'us', exp: 1 }, 'x'.repeat(32)) })).status, 401)
})

t.test('lowering JWT_TTL_SECONDS ends every token that lives longer, until its last second', async (t) => {
  let now = Date.now()
  const clock = () => now
  const service = await testService(t, { overrides: { clock } })
  const { token } = await service.login(newPhone())
  const { JWT_SECRET } = service.env as { JWT_SECRET: string }
  const shorter = await testService(t,
    { overrides: { clock }, database: service.database, env: { JWT_SECRET, JWT_TTL_SECONDS: '600' } })
  const statuses = async () => Promise.all([service, shorter].map(async ({ request }) =>
    (await request('GET', '/auth/verify-token', { token })).status))

  t.strictSame(await statuses(), [200, 401])
  now = claimsOf(token).exp * 1000 - 1
  t.strictSame(await statuses(), [200, 401])
})

t.test('a cached token expires in the second of its exp, too', async (t) => {
  let now = Date.now()
  const service = await testService(t, { overrides: { clock: () => now } })
  const { token } = await service.login(newPhone())
  const { exp } = claimsOf(token)
  const ask = async () => (await service.request('GET', '/api/v1/users/me', { token })).status
  t.equal(await ask(), 200)
  t.equal(await ask(), 200)
  now = exp * 1000 - 1
  t.equal(await ask(), 200)
  now = exp * 1000
  t.equal(await ask(), 401)
})

t.test('a session ends SESSION_MAX_SECONDS after its login, in that second, also for a cached token', async (t) => {
  let now = Date.now()
  const service = await testService(t, { overrides: { clock: () => now }, env: { SESSION_MAX_SECONDS: '1000' } })
  const { token, user, body } = await service.login(newPhone())
  const claims = claimsOf(token)
  const longer = mint({ ...claims, exp: claims.iat + 1800 }, service.env.JWT_SECRET as string)
  const statuses = async () => Promise.all([token, longer].map(async (token) =>
    (await service.request('GET', '/auth/verify-token', { token })).status))

  t.equal(body.expires_in, 1000)
  t.strictSame(claims, { user_id: user.id, market: 'kg', iat: claims.iat, exp: claims.iat + 1000 })
  now = (claims.iat + 1000) * 1000 - 1
  t.strictSame(await statuses(), [200, 200])
  now = (claims.iat + 1000) * 1000
  t.strictSame(await statuses(), [401, 401])
  const fresh = mint({ ...claims, exp: claims.iat + 1799 }, service.env.JWT_SECRET as string)
  t.equal((await service.request('GET', '/auth/verify-token', { token: fresh })).status, 401,
    'also a token that is not cached')
})
