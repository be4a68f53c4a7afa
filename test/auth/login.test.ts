import pg from 'pg'
import t, { type Test } from 'tap'
import { problemOf, wrongCode } from '../helpers/responses.js'
import { claimsOf } from '../helpers/forge.js'
import { smsWebhook, startService } from '../helpers/server-process.js'
import {
  client, newPhone, productionEnv, testDatabase, testRedis, testService, type Json, type Service
} from '../helpers/service.js'

const decode = (token: string) =>
  JSON.parse(Buffer.from(token.split('.')[1] as string, 'base64url').toString()) as Record<string, number>
const seconds = (milliseconds: number) => Math.floor(milliseconds / 1000)

/** A service whose clock moves on by the cooldown before each login. */
async function serviceWithoutCooldown (t: Test) {
  let later = 0
  const service = await testService(t,
    { env: { CODE_RESEND_SECONDS: '1' }, overrides: { clock: () => Date.now() + later } })
  return {
    ...service,
    login (phone: string) {
      later += 1000
      return service.login(phone)
    }
  }
}

const authenticatedRoutes = [
  ['GET', '/api/v1/users/me'],
  ['PATCH', '/api/v1/users/me'],
  ['DELETE', '/api/v1/users/me'],
  ['GET', '/api/v1/profile/addresses'],
  ['POST', '/api/v1/profile/addresses'],
  ['GET', '/api/v1/profile/addresses/1'],
  ['PUT', '/api/v1/profile/addresses/1'],
  ['PATCH', '/api/v1/profile/addresses/1'],
  ['DELETE', '/api/v1/profile/addresses/1'],
  ['GET', '/api/v1/auth/verify-token'],
  ['GET', '/auth/verify-token'],
  ['POST', '/api/v1/auth/logout'],
  ['POST', '/auth/logout']
] as const

/** Expects 401 for this token on every authenticated route. */
async function isRefusedEverywhere (t: Test, service: Pick<Service, 'request'>, token: string) {
  const body = { title: 'Home', full_address: 'Chuy 1', full_name: 'A name' }
  for (const [method, path] of authenticatedRoutes) {
    const response = await service.request(method, path, { token, ...(method !== 'GET' && { body }) })
    t.strictSame(...problemOf(response, 401, 'Unauthorized', 'invalid_token'), `${method} ${path}`)
    t.equal(response.headers.get('www-authenticate'), 'Bearer realm="phone-auth", error="invalid_token"')
  }
}

/** The row of a number, with last_login in seconds since the epoch. */
const rowOf = async ({ sql }: Pick<Service, 'sql'>, phone: string): Promise<Json> =>
  (await sql('SELECT *, extract(epoch from last_login)::float8 AS login FROM users WHERE phone_number = $1',
    [phone]))[0]

t.test('a code by SMS becomes a token for the authenticated routes until logout', async (t) => {
  const service = await testService(t)
  const phone = newPhone('us')

  const sent = await service.send(phone)
  t.equal(sent.status, 200)
  t.strictSame(sent.body, {
    success: true,
    message: 'A code is on its way by SMS.',
    phone_number: sent.body.phone_number,
    market: 'us',
    language: 'en',
    expires_in: 300,
    expires_in_minutes: 5,
    retry_after: 60
  })
  const verified = await service.verify(phone, service.codeOf(phone))
  t.equal(verified.status, 200)
  t.equal(verified.headers.get('cache-control'), 'no-store')
  const { access_token: token, user } = verified.body
  t.strictSame({ ...verified.body, access_token: '' }, {
    success: true,
    message: 'Signed in.',
    access_token: '',
    token_type: 'bearer',
    expires_in: 1800,
    user: {
      id: user.id, phone, name: `User ${phone}`, full_name: null, is_active: true, is_verified: true, market: 'us'
    },
    market: 'us',
    is_new_user: true
  })

  const claims = decode(token)
  t.strictSame(Object.keys(claims).sort(), ['exp', 'iat', 'market', 'user_id'])
  t.equal(claims.user_id, user.id)
  t.equal(claims.exp, claims.iat as number + 1800)

  t.equal((await service.request('GET', '/api/v1/users/me', { token })).status, 200)
  const loggedOut = await service.request('POST', '/api/v1/auth/logout', { token })
  t.equal(loggedOut.status, 200)
  t.strictSame(loggedOut.body, { success: true, message: 'Signed out on every device.' })
  await isRefusedEverywhere(t, service, token)
})

t.test('a login works under both prefixes', async (t) => {
  const service = await testService(t)
  const phone = newPhone()
  await service.send(phone)
  const { status, body } = await service.request('POST', '/auth/verify-code',
    { body: { phone, verification_code: service.codeOf(phone) } })
  t.equal(status, 200)
  t.equal((await service.request('GET', '/auth/verify-token', { token: body.access_token })).status, 200)
})

for (const flag of ['FALSE', 'NULL']) {
  t.test(`with is_active ${flag} no route accepts a token; verify-code sets it to TRUE`, async (t) => {
    const service = await testService(t)
    const phone = newPhone()
    const [{ id }] = await service.sql(`INSERT INTO users (phone_number, is_active, is_verified, last_login)
      VALUES ($1, ${flag}, ${flag}, '2020-01-01') RETURNING id`, [phone]) as [Json]
    const { token: early } = service.app.signToken({ id, market: 'kg', sessionStart: seconds(Date.now()) })
    await isRefusedEverywhere(t, service, early)
    await service.send(phone)
    await isRefusedEverywhere(t, service, early)
    t.match(await rowOf(service, phone), { is_active: flag === 'NULL' ? null : false, login: Date.UTC(2020) / 1000 })

    const before = seconds(Date.now())
    const { body } = await service.verify(phone, service.codeOf(phone))
    const after = seconds(Date.now())
    const row = await rowOf(service, phone)
    t.equal(row.is_active, true)
    t.equal(row.is_verified, true)
    t.equal(row.login, Math.floor(row.login), 'a whole second')
    t.ok(row.login >= before && row.login <= after, 'now')
    t.equal(decode(body.access_token).iat, row.login)
    t.equal((await service.request('GET', '/api/v1/users/me', { token: body.access_token })).status, 200)
  })
}

t.test('a first login writes every column itself and relies on no default of the table', async (t) => {
  const service = await testService(t)
  await service.sql(`ALTER TABLE users ALTER is_active SET DEFAULT FALSE, ALTER is_verified SET DEFAULT FALSE,
    ALTER market SET DEFAULT 'xx', ALTER language SET DEFAULT 'xx', ALTER country SET DEFAULT 'xx',
    ALTER created_at SET DEFAULT '1970-01-01', ALTER updated_at SET DEFAULT '1970-01-01'`)
  const phone = newPhone('us')
  const before = Date.now()
  const { user } = await service.login(phone)
  const [row] = await service.sql(`SELECT id, phone_number, full_name, profile_image_url, is_active, is_verified,
    market, language, country, extract(epoch from created_at)::float8 * 1000 AS created,
    extract(epoch from updated_at)::float8 * 1000 AS updated FROM users`)
  t.strictSame({ ...row, created: 0, updated: 0 }, {
    id: user.id,
    phone_number: phone,
    full_name: null,
    profile_image_url: null,
    is_active: true,
    is_verified: true,
    market: 'us',
    language: 'en',
    country: 'United States',
    created: 0,
    updated: 0
  })
  for (const time of [row.created, row.updated]) t.ok(time >= before - 1 && time <= Date.now() + 1)
})

t.test('a known user is not new and keeps every column that a login does not write', async (t) => {
  const service = await testService(t)
  const phone = newPhone()
  const [{ id }] = await service.sql(`INSERT INTO users
    (phone_number, full_name, profile_image_url, language, country, created_at, updated_at)
    VALUES ($1, 'Айгүл Асанова', 'https://example.com/a.png', 'ky', 'Somewhere', '2020-01-01', '2020-01-01')
    RETURNING id`, [phone]) as [Json]
  const before = await rowOf(service, phone)
  const { body } = await service.login(phone)
  t.strictSame({ ...body, access_token: '' }, {
    success: true,
    message: 'Signed in.',
    access_token: '',
    token_type: 'bearer',
    expires_in: 1800,
    user: {
      id, phone, name: 'Айгүл Асанова', full_name: 'Айгүл Асанова', is_active: true, is_verified: true, market: 'kg'
    },
    market: 'kg',
    is_new_user: false
  })
  const after = await rowOf(service, phone)
  t.ok(after.updated_at > before.updated_at)
  const { last_login: lastLogin, login, updated_at: updatedAt } = after
  t.strictSame(after, { ...before, is_verified: true, last_login: lastLogin, login, updated_at: updatedAt })
})

t.test('a user with NULLs and an unknown market and language signs in like any other', async (t) => {
  const service = await testService(t)
  const [bare, strange] = [newPhone('us'), newPhone('us')]
  await service.sql(`INSERT INTO users
    (phone_number, is_active, is_verified, market, language, country, created_at, updated_at)
    VALUES ($1, NULL, NULL, NULL, NULL, NULL, NULL, NULL)`, [bare])
  await service.sql(`INSERT INTO users (phone_number, full_name, market, language, last_login)
    VALUES ($1, '', 'zz', 'zz', 'infinity')`, [strange])
  for (const phone of [bare, strange]) {
    const { token, body } = await service.login(phone)
    t.match(body, {
      user: { name: `User ${phone}`, is_active: true, is_verified: true, market: 'us' },
      market: 'us',
      is_new_user: false
    })
    t.match((await service.request('GET', '/api/v1/users/me', { token })).body,
      { phone_number: phone, market: 'us', language: 'en', country: phone === bare ? 'United States' : 'Kyrgyzstan' })
  }
})

t.test('every spelling of a number signs in to the same account', async (t) => {
  const service = await serviceWithoutCooldown(t)
  const phone = newPhone('us')
  const { user } = await service.login(phone)
  const again = await service.login(phone)
  t.strictSame(again.user, user)
  t.equal(again.body.is_new_user, false)
  await service.send(phone)
  const typed = `${phone.slice(1, 2)} (${phone.slice(2, 5)}) ${phone.slice(5, 8)}-${phone.slice(8)}`
  t.equal((await service.send(typed)).body.code, 'resend_too_soon')
})

t.test('a wrong code gets the remaining attempts while there is a live code, and nothing else', async (t) => {
  const service = await testService(t)
  const [phone, unknown] = [newPhone(), newPhone()]
  service.confidential.add(unknown)
  t.strictSame(...problemOf(await service.verify(phone, '123456'), 400, 'Bad Request', 'invalid_code'), 'never sent')
  await service.send(phone)
  const code = service.codeOf(phone)
  for (const left of [4, 3, 2, 1, 0]) {
    t.strictSame(...problemOf(await service.verify(phone, wrongCode(code)), 400, 'Bad Request', 'invalid_code',
      { attempts_remaining: left }))
  }
  t.strictSame(...problemOf(await service.verify(phone, code), 400, 'Bad Request', 'invalid_code'), 'dead')
  t.strictSame(await service.sql('SELECT * FROM users'), [], 'no account exists')

  await service.send(unknown)
  t.equal((await service.verify(unknown, service.codeOf(unknown))).status, 200)
  t.strictSame(...problemOf(await service.verify(unknown, service.codeOf(unknown)), 400, 'Bad Request', 'invalid_code'),
    'used')
})

t.test('the code of one number does not sign in another', async (t) => {
  const service = await testService(t)
  const [first, second] = [newPhone(), newPhone()]
  await service.send(first)
  t.strictSame(...problemOf(await service.verify(second, service.codeOf(first)), 400, 'Bad Request', 'invalid_code'))
  service.confidential.add(second)
  t.equal((await service.verify(first, service.codeOf(first))).status, 200)
})

t.test('anything that is not six digits is 422 and costs no attempt', async (t) => {
  const service = await testService(t)
  const phone = newPhone()
  await service.send(phone)
  const code = service.codeOf(phone)
  for (const given of [Number(code), `${code}\n`, code.slice(1), `${code}0`, '', null, '１２３４５６', [code]]) {
    const { status, body } = await service.request('POST', '/api/v1/auth/verify-code',
      { body: { phone, verification_code: given } })
    t.strictSame([status, body.code, body.errors[0].field], [422, 'invalid_request', '/verification_code'],
      JSON.stringify(given).replace(code, 'the code'))
  }
  t.equal((await service.verify(phone, wrongCode(code))).body.attempts_remaining, 4)
  t.equal((await service.verify(phone, code)).status, 200)
})

t.test('after CODE_GUESSES_PER_DAY wrong guesses no code of the number works for a day', async (t) => {
  const start = Date.now()
  let later = 0
  const service = await testService(t,
    { env: { CODE_GUESSES_PER_DAY: '7' }, overrides: { clock: () => start + later } })
  const phone = newPhone()
  await service.send(phone)
  for (const left of [4, 3]) {
    t.equal((await service.verify(phone, wrongCode(service.codeOf(phone)))).body.attempts_remaining, left)
  }
  t.equal((await service.verify(phone, service.codeOf(phone))).status, 200)
  await service.send(phone)
  for (const left of [4, 3, 2, 1, 0]) {
    t.equal((await service.verify(phone, wrongCode(service.codeOf(phone)))).body.attempts_remaining, left)
  }

  t.strictSame(...problemOf(await service.verify(phone, service.codeOf(phone)), 400, 'Bad Request', 'invalid_code'))
  later = 100_000
  t.strictSame(...problemOf(await service.send(phone), 429, 'Too Many Requests', 'too_many_sends',
    { retry_after: 86_300 }))
  t.equal((await service.send(newPhone())).status, 200, 'other numbers work')
  later = 86_400_000
  t.equal((await service.login(phone)).body.is_new_user, false)
})

t.test('of 500 wrong guesses at once at a number with 3 remaining guesses, 3 are compared', async (t) => {
  const service = await testService(t, { env: { CODE_GUESSES_PER_DAY: '3' } })
  const phone = newPhone()
  await service.send(phone)
  const code = service.codeOf(phone)

  const responses = await Promise.all(Array.from({ length: 500 }, () => service.verify(phone, wrongCode(code))))
  t.strictSame(responses.map(({ body }) => body.attempts_remaining).filter((left) => left !== undefined).sort(),
    [0, 1, 2])
  // A busy machine takes longer than the second that a guess waits for Redis.
  t.ok(responses.every(({ status }) => status === 400 || status === 503))
})

t.test('CODE_MAX_ATTEMPTS is the number of wrong guesses at a code', async (t) => {
  const service = await testService(t, { env: { CODE_MAX_ATTEMPTS: '2' } })
  const phone = newPhone()
  await service.send(phone)
  const code = service.codeOf(phone)
  t.equal((await service.verify(phone, wrongCode(code))).body.attempts_remaining, 1)
  t.equal((await service.verify(phone, wrongCode(code))).body.attempts_remaining, 0)
  t.equal((await service.verify(phone, code)).body.code, 'invalid_code')
})

t.test('with CODE_TTL_SECONDS=2 the right code is refused after two seconds', async (t) => {
  const service = await testService(t,
    { env: { CODE_TTL_SECONDS: '2', CODE_MAX_ATTEMPTS: '100', CODE_RESEND_SECONDS: '1' } })
  const [late, inTime] = [newPhone(), newPhone()]
  const sent = await service.send(late)
  t.match(sent.body, { expires_in: 2, expires_in_minutes: 1 })
  const code = service.codeOf(late)
  const { token } = await service.login(inTime)
  t.equal((await service.request('GET', '/api/v1/users/me', { token })).status, 200, 'the code works before that')
  // Responses have attempts_remaining while the code is live. Redis needs real time to pass here.
  const start = Date.now()
  let guesses = 0
  while ((await service.verify(late, wrongCode(code))).body.attempts_remaining !== undefined) {
    if (++guesses === 90) break
    await new Promise((resolve) => setTimeout(resolve, 50))
  }
  t.ok(guesses < 90 && Date.now() - start > 1000, 'the code expired')
  t.strictSame(...problemOf(await service.verify(late, code), 400, 'Bad Request', 'invalid_code'))
  t.strictSame(await rowOf(service, late), undefined)
  await service.send(late)
  t.not(service.codeOf(late), code)
  t.equal((await service.verify(late, service.codeOf(late))).status, 200)
})

t.test('logout sets is_active to FALSE and makes every authenticated route 401, until the next login', async (t) => {
  const service = await serviceWithoutCooldown(t)
  const phone = newPhone()
  const { token } = await service.login(phone)
  const before = await rowOf(service, phone)
  t.equal((await service.request('POST', '/api/v1/auth/logout', { token })).status, 200)
  const after = await rowOf(service, phone)
  t.ok(after.updated_at > before.updated_at)
  t.strictSame({ ...after, login: after.login.toFixed(6) }, {
    ...before, is_active: false, updated_at: after.updated_at, login: (before.login + 0.000001).toFixed(6)
  }, 'last_login moves by a microsecond, and nothing else changes')
  await isRefusedEverywhere(t, service, token)
  const again = await service.login(phone)
  t.equal((await rowOf(service, phone)).is_active, true)
  t.equal((await service.request('GET', '/api/v1/users/me', { token: again.token })).status, 200)
})

t.test('a logout ends the tokens of all devices of the user, and of no other user', async (t) => {
  const service = await serviceWithoutCooldown(t)
  const phone = newPhone()
  const [phoneToken, tabletToken, other] = [
    (await service.login(phone)).token, (await service.login(phone)).token, (await service.login(newPhone())).token
  ]
  for (const token of [phoneToken, tabletToken]) {
    t.equal((await service.request('GET', '/api/v1/users/me', { token })).status, 200)
  }
  await service.request('POST', '/api/v1/auth/logout', { token: phoneToken })
  for (const token of [phoneToken, tabletToken]) await isRefusedEverywhere(t, service, token)
  t.equal((await service.request('GET', '/api/v1/users/me', { token: other })).status, 200)
})

for (const [what, statement] of [
  ['is_active set to FALSE', 'UPDATE users SET is_active = FALSE'],
  ['is_active set to NULL', 'UPDATE users SET is_active = NULL'],
  ['a deleted row', 'DELETE FROM users']
] as const) {
  t.test(`${what} in SQL ends the very next request`, async (t) => {
    const service = await testService(t)
    const { token } = await service.login(newPhone())
    for (const [method, path] of [['GET', '/api/v1/users/me'], ['GET', '/api/v1/auth/verify-token']] as const) {
      t.equal((await service.request(method, path, { token })).status, 200)
    }
    await service.sql(statement)
    await isRefusedEverywhere(t, service, token)
  })
}

t.test('a login that follows a logout within the same second is one second later', async (t) => {
  const service = await serviceWithoutCooldown(t)
  const phone = newPhone()
  const { token } = await service.login(phone)
  await service.request('POST', '/api/v1/auth/logout', { token })
  // The second of this login does not pass while the test runs.
  await service.sql(`UPDATE users
    SET last_login = date_trunc('second', now() at time zone 'utc') + interval '20 seconds'
    WHERE phone_number = $1`, [phone])
  const { login } = await rowOf(service, phone)
  const again = await service.login(phone)
  t.equal(decode(again.token).iat, login + 1)
  t.equal((await rowOf(service, phone)).login, login + 1)
  t.equal((await service.request('GET', '/api/v1/users/me', { token: again.token })).status, 200)
})

t.test('a login in the second of a logged-out login is later, also if is_active became TRUE in between', async (t) => {
  const service = await serviceWithoutCooldown(t)
  const phone = newPhone()
  const { token } = await service.login(phone)
  await service.sql(`UPDATE users SET is_active = TRUE,
    last_login = date_trunc('second', now() at time zone 'utc') + interval '20.000001 seconds'`)
  const { login } = await rowOf(service, phone)

  const again = await service.login(phone)
  t.equal(decode(again.token).iat, Math.ceil(login))
  t.equal((await rowOf(service, phone)).login, Math.ceil(login))
  t.not(again.token, token)
})

t.test('while last_login is 30 to 60 s ahead, a login is 429, keeps its code and uses no id', async (t) => {
  const service = await serviceWithoutCooldown(t)
  const phone = newPhone()
  await service.sql(`INSERT INTO users (phone_number, last_login)
    VALUES ($1, now() AT TIME ZONE 'utc' + interval '45 seconds')`, [phone])
  await service.send(phone)
  const verify = () => service.verify(phone, service.codeOf(phone))

  const refused = await verify()
  t.match(refused, { status: 429, body: { code: 'rate_limited' } })
  t.ok(refused.body.retry_after > 10 && refused.body.retry_after <= 16)
  t.equal(refused.headers.get('retry-after'), String(refused.body.retry_after))
  await service.sql("UPDATE users SET last_login = last_login - interval '16 seconds'")
  t.match(await verify(), { status: 200, body: { is_new_user: false } })
  t.equal((await service.sql('SELECT last_value::int FROM users_id_seq'))[0].last_value, 1)
})

for (const last of [
  "now() AT TIME ZONE 'utc' + interval '3 hours'", "now() AT TIME ZONE 'utc' + interval '65 seconds'",
  "'infinity'", "'-infinity'", 'NULL'
]) {
  t.test(`a login replaces last_login ${last} by the current second`, async (t) => {
    const service = await serviceWithoutCooldown(t)
    const phone = newPhone()
    await service.sql(`INSERT INTO users (phone_number, is_active, last_login) VALUES ($1, FALSE, ${last})`, [phone])
    const before = seconds(Date.now())

    const { token, body } = await service.login(phone)
    const { iat } = claimsOf(token)
    t.equal(body.is_new_user, false)
    t.ok(iat >= before && iat <= seconds(Date.now()))
    t.equal((await rowOf(service, phone)).login, iat)
    t.equal((await service.request('GET', '/auth/verify-token', { token })).status, 200)
    t.equal((await service.sql('SELECT last_value::int FROM users_id_seq'))[0].last_value, 1)
  })
}

t.test('a login whose row can be neither found nor written is 503, and its code stays valid', async (t) => {
  const service = await serviceWithoutCooldown(t)
  const phone = newPhone()
  await service.sql(`CREATE FUNCTION nothing() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NULL; END';
    CREATE TRIGGER nothing BEFORE INSERT ON users FOR EACH ROW EXECUTE FUNCTION nothing()`)
  await service.send(phone)

  t.match(await service.verify(phone, service.codeOf(phone)), { status: 503, body: { code: 'unavailable' } })
  await service.sql('DROP TRIGGER nothing ON users')
  t.match(await service.verify(phone, service.codeOf(phone)), { status: 200, body: { is_new_user: true } })
})

t.test('iat never decreases, and increases with every login that follows a logout', async (t) => {
  const service = await serviceWithoutCooldown(t)
  const phone = newPhone()
  let last = 0
  for (let logins = 0; logins < 5; logins++) {
    const { token } = await service.login(phone)
    const { iat, exp } = decode(token) as { iat: number, exp: number }
    t.ok(iat > last)
    t.equal(exp - iat, 1800)
    t.equal(iat, (await rowOf(service, phone)).login)
    last = iat
    await service.request('POST', '/api/v1/auth/logout', { token })
  }
})

t.test('a second device signs in, and the tokens of both work', async (t) => {
  const service = await serviceWithoutCooldown(t)
  const phone = newPhone()
  const first = await service.login(phone)
  const second = await service.login(phone)
  t.ok(decode(second.token).iat as number >= (decode(first.token).iat as number))
  t.equal(second.body.is_new_user, false)
  for (const { token } of [first, second]) {
    t.strictSame((await service.request('GET', '/api/v1/auth/verify-token', { token })).body,
      { valid: true, user_id: first.user.id, market: 'kg' })
  }
})

t.test('times are UTC in the table and in responses, in any time zone of process, server and session', async (t) => {
  const database = await testDatabase(t)
  const { url: redisUrl } = await testRedis(t)
  const name = new URL(database.url).pathname.slice(1)
  await database.sql(`ALTER DATABASE ${name} SET timezone TO 'Asia/Bishkek'`)
  const session = new pg.Client(database.url)
  await session.connect()
  t.equal((await session.query('SHOW timezone')).rows[0].TimeZone, 'Asia/Bishkek', 'the time zone of new sessions')
  await session.end()
  const { url: smsUrl, sms } = await smsWebhook(t)
  const process = await startService(t,
    { ...productionEnv(database.url, redisUrl), TZ: 'Asia/Bishkek', SMS_WEBHOOK_URL: smsUrl })
  const service = client(process.url, sms)
  const phone = newPhone()
  const before = Date.now()
  const { token } = await service.login(phone)
  const { body: me } = await service.request('GET', '/api/v1/users/me', { token })
  const { body: { address } } = await service.request('POST', '/api/v1/profile/addresses',
    { token, body: { title: 'Home', full_address: 'Chuy 1' } })
  const after = Date.now()
  const [row] = await database.sql(`SELECT u.last_login::text AS "last_login", u.created_at::text AS "created_at",
    u.updated_at::text AS "updated_at", a.created_at::text AS "address"
    FROM users u JOIN user_addresses a ON a.user_id = u.id`)
  for (const text of [row.last_login, row.created_at, row.updated_at, row.address]) {
    const time = Date.parse(`${text.replace(' ', 'T')}Z`)
    t.ok(time >= Math.floor(before / 1000) * 1000 && time <= after, `${text} in the table`)
  }
  for (const text of [me.last_login, me.created_at, address.created_at, address.updated_at]) {
    t.match(text, /^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z$/)
    t.ok(Date.parse(text) >= Math.floor(before / 1000) * 1000 && Date.parse(text) <= after, `${text} in the response`)
  }
  t.equal(decode(token).iat, Date.parse(me.last_login) / 1000)
  t.equal(await process.stop(), 0)
})
