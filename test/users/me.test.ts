import t, { type Test } from 'tap'
import { holdLock } from '../helpers/locks.js'
import { newPhone, testDatabase, testService, type Json, type Service } from '../helpers/service.js'

/** A signed-in person with the requests for their own account. */
async function person (service: Service, phone = newPhone()) {
  const { token, user } = await service.login(phone)
  const me = (method: string, body?: unknown) => service.request(method, '/api/v1/users/me', { token, body })
  return {
    phone,
    token,
    id: user.id as number,
    me,
    patch: (body: unknown) => me('PATCH', body),
    row: async (): Promise<Json> => (await service.sql('SELECT * FROM users WHERE id = $1', [user.id]))[0]
  }
}
type Person = Awaited<ReturnType<typeof person>>

const iso = /^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z$/

t.test('200: GET returns the whole account, with the values of its market', async (t) => {
  const service = await testService(t)
  for (const [market, rest] of Object.entries({
    kg: { market: 'kg', language: 'ru', country: 'Kyrgyzstan', currency: 'сом', currency_code: 'KGS' },
    us: { market: 'us', language: 'en', country: 'United States', currency: '$', currency_code: 'USD' }
  })) {
    const { phone, id, me } = await person(service, newPhone(market as 'kg' | 'us'))
    const { status, body, headers } = await me('GET')
    t.equal(status, 200)
    t.equal(headers.get('cache-control'), 'no-store')
    t.match(body, { last_login: iso, created_at: iso })
    t.match(body.formatted_phone, market === 'kg' ? /^\+996 \d{3} \d{3} \d{3}$/ : /^\+1 \(\d{3}\) \d{3}-\d{4}$/)
    t.equal(body.formatted_phone.replace(/[ ()-]/g, ''), phone)
    t.strictSame(body, {
      id,
      phone_number: phone,
      formatted_phone: body.formatted_phone,
      name: `User ${phone}`,
      full_name: null,
      profile_image_url: null,
      is_active: true,
      is_verified: true,
      ...rest,
      last_login: body.last_login,
      created_at: body.created_at
    })
  }
})

t.test('timestamps are those of the row, in UTC, in any time zone of the database', async (t) => {
  const database = await testDatabase(t)
  await database.sql(`ALTER DATABASE ${new URL(database.url).pathname.slice(1)} SET timezone = 'Asia/Bishkek'`)
  const service = await testService(t, { database })
  const before = Date.now()
  const { me, id, patch } = await person(service)
  await patch({ full_name: 'Айбек' })
  const { body } = await me('GET')
  const [row] = await service.sql(`SELECT to_char(last_login, 'YYYY-MM-DD"T"HH24:MI:SS.MS"Z"') AS last_login,
    to_char(date_trunc('milliseconds', created_at), 'YYYY-MM-DD"T"HH24:MI:SS.MS"Z"') AS created_at,
    updated_at >= created_at AND updated_at < created_at + interval '1 minute' AS "isUpdated"
    FROM users WHERE id = $1`, [id])
  t.strictSame({ last_login: body.last_login, created_at: body.created_at, isUpdated: true }, row)
  t.ok(Math.abs(Date.parse(body.created_at) - before) < 60_000)
})

t.test('the row of an earlier system is returned with the values of its market', async (t) => {
  const service = await testService(t)
  for (const [set, expected] of [
    [
      `market = NULL, language = NULL, country = NULL, last_login = NULL, created_at = NULL, updated_at = NULL,
        is_verified = NULL`,
      {
        market: 'us',
        language: 'en',
        country: 'United States',
        currency_code: 'USD',
        last_login: null,
        created_at: null,
        is_verified: false
      }
    ],
    [
      "market = 'mars', language = 'tlh', country = 'Olympus'",
      { market: 'us', language: 'en', country: 'Olympus', currency: '$' }
    ],
    ["market = '', language = '', full_name = ''", { market: 'us', language: 'en', full_name: '' }],
    ["market = 'kg', language = 'ky'", { market: 'kg', language: 'ky', currency: 'сом' }]
  ] as const) {
    const { id, me, phone } = await person(service, newPhone('us'))
    await service.sql(`UPDATE users SET ${set} WHERE id = $1`, [id])
    const { status, body } = await me('GET')
    t.equal(status, 200, set)
    t.match(body, { id, name: `User ${phone}`, ...expected })
    t.match(await me('PATCH', { full_name: 'A' }), { status: 200, body: { ...expected, full_name: 'A', name: 'A' } })
  }
})

/** A value in the name of an assertion, which must be one line. */
const shownAs = (field: string, value: unknown) => `${field} ${encodeURI(JSON.stringify(value)).slice(0, 60)}`

/** Writes `value` and expects that only this value changes. */
async function accepts (t: Test, { me, patch }: Person, field: string, value: unknown) {
  const { body: before } = await me('GET')
  const { status, body, headers } = await patch({ [field]: value })
  const shown = shownAs(field, value)
  t.equal(status, 200, shown)
  t.equal(headers.get('cache-control'), 'no-store')
  const name = field === 'full_name' ? value ?? `User ${before.phone_number}` : before.name
  t.strictSame(body, { ...before, [field]: value, name }, shown)
  t.strictSame((await me('GET')).body, body)
}

async function refuses (t: Test, { patch, row }: Person, field: string, value: unknown) {
  const before = await row()
  const { status, body, headers } = await patch({ full_name: 'not written', [field]: value })
  const shown = shownAs(field, value)
  t.equal(status, 422, shown)
  t.equal(body.code, 'invalid_request', shown)
  t.strictSame([...new Set(body.errors?.map((error: Json) => error.field))], [`/${field}`], shown)
  t.equal(headers.get('cache-control'), 'no-store')
  t.strictSame(await row(), before, 'nothing is written')
}

const hiddenCharacters = ['\u0001', '\b', '\t', '\u001b[31m', '\u007f', '\u0085', '\u009b', '\u202a', '\u202b',
  '\u202c', '\u202d', '\u202e', '\u2066', '\u2067', '\u2068', '\u2069']
const accepted = {
  full_name: [
    'a', 'Айбек Асанов', 'محمد علی\u200cزاده', '\u200fדנה\u200e', '👩\u200d🔬', ' spaced ', 'я'.repeat(255),
    '😀'.repeat(255), null
  ],
  profile_image_url: [
    'https://example.com/a.png', 'http://pictures.example.com:9000/a', 'https://example.com./a',
    'https://a_b.example.com/@', 'HTTPS://EXAMPLE.COM/%D1%8F?x=1&y=[2]#z', 'https://пример.рф/я.png',
    `https://example.com/${'a'.repeat(480)}`, null
  ],
  language: ['ru', 'en', 'ky']
}
const refused = {
  full_name: ['', ' ', '\t\n', 'я'.repeat(256), '😀'.repeat(256), 'a\0b', '\ud800', 5, true, [], {}, ['a'],
    ...hiddenCharacters.map((character) => `a${character}b`), 'a\nb', 'a\r\nb'],
  profile_image_url: [
    '', 'a', '/a.png', '//example.com/a.png', 'example.com/a.png', 'https://', 'https:///', 'https:example.com',
    'http://[::1', 'https://a:b:c/',
    'javascript:alert(1)', 'JavaScript:alert(1)', 'data:image/png;base64,AA==', 'ftp://example.com/a',
    'file:///etc/passwd', 'blob:https://example.com/1',
    'https://example.com/a b', ' https://example.com/', 'https://example.com/ ', 'https://exa mple.com/',
    'https://example.com/\u00a0', 'https://example.com/\u2028',
    'https://example.com/\n', 'https://example.com/\t', 'https://example.com/\0', 'https://example.com/\u0001',
    'https://example.com/\u001b[31m',
    'https://example.com/\u007f', 'https://example.com/\u0085', 'https://example.com/\ud800',
    'https://example.com/">', 'https://example.com/<b>', 'https://example.com/\\',
    `https://example.com/${'a'.repeat(481)}`, 5, true, [], {},
    'https://example.com/\u202egnp.exe', 'https://localhost/a', 'http://LOCALHOST:9000/a', 'https://localhost./a',
    'https://intranet/a.png', 'https://example..com/',
    'http://127.0.0.1/', 'http://127.1/', 'http://2130706433/', 'http://0x7f000001/', 'http://0x7f.1/',
    'http://017700000001/', 'http://127.0.0.1./',
    'http://127%2e0%2e0%2e1/', 'http://１２７.0.0.1/', 'http://①②⑦。0。0。1/', 'https:////10.0.0.1/',
    'http://169.254.169.254/latest/meta-data', 'http://[::1]/',
    'http://[::ffff:7f00:1]:80/', 'http://[2001:db8::1]/a.png', 'https://user:password@example.com/',
    'https://user@example.com/', 'https://:@127.0.0.1/',
    'https://example.com:0/', 'https://example.com:65536/'
  ],
  language: ['', 'RU', 'zz', 'ru ', 'english', null, 1, ['ru']]
}

for (const [field, values] of Object.entries(accepted)) {
  t.test(`200: PATCH accepts every valid ${field} and changes nothing else`, async (t) => {
    const somebody = await person(await testService(t))
    for (const value of values) await accepts(t, somebody, field, value)
  })
}

for (const [field, values] of Object.entries(refused)) {
  t.test(`422: PATCH refuses every invalid ${field} and writes nothing`, async (t) => {
    const somebody = await person(await testService(t))
    for (const value of values) await refuses(t, somebody, field, value)
  })
}

t.test('422: a body that is not an object', async (t) => {
  const { patch, row } = await person(await testService(t))
  const before = await row()
  for (const body of ['null', '[]', '"full_name"', '5', 'true', '']) {
    t.match(await patch(body), { status: 422, body: { code: 'invalid_request' } }, body)
  }
  t.strictSame(await row(), before)
})

t.test('PATCH writes several fields together; a body without fields is not an error', async (t) => {
  const { me, patch } = await person(await testService(t))
  const { body } = await patch({ full_name: 'Айбек', profile_image_url: 'https://example.com/', language: 'ky' })
  t.match(body, { full_name: 'Айбек', name: 'Айбек', profile_image_url: 'https://example.com/', language: 'ky' })
  t.match(await patch({}), { status: 200, body })
  t.strictSame((await me('GET')).body, body)
})

t.test('unknown members are ignored and not stored', async (t) => {
  const { patch, row } = await person(await testService(t))
  const { updated_at: _, ...before } = await row()
  const own = {
    id: 1,
    phone_number: '+996555999999',
    is_active: false,
    is_verified: false,
    market: 'us',
    country: 'X',
    last_login: null
  }
  const strange = { email: 'a@example.com', fullName: 'X', profileImageUrl: 'https://example.com/', toString: 1 }
  for (const body of [own, strange]) t.equal((await patch(body)).status, 200)
  const { updated_at: __, ...after } = await row()
  t.strictSame(after, before)
})

t.test('every write updates updated_at: PATCH, logout and login', async (t) => {
  const service = await testService(t)
  const { phone, token, patch, row } = await person(service)
  const times = [(await row()).updated_at]
  const next = async (status: number) => {
    t.equal(status, 200)
    times.push((await row()).updated_at)
  }
  await next((await patch({ full_name: 'A' })).status)
  await next((await patch({})).status)
  await next((await service.request('POST', '/api/v1/auth/logout', { token })).status)
  await service.redis.flushdb()
  await service.login(phone)
  await next(200)
  for (const [index, time] of times.entries()) if (index > 0) t.ok(time > times[index - 1], `write ${index}`)
})

t.test('401: after is_active is FALSE or NULL, or the row is deleted, the next request is refused', async (t) => {
  const service = await testService(t)
  for (const change of [
    'UPDATE users SET is_active = FALSE', 'UPDATE users SET is_active = NULL', 'DELETE FROM users'
  ]) {
    const { id, me } = await person(service)
    t.equal((await me('GET')).status, 200)
    await service.sql(`${change} WHERE id = $1`, [id])
    for (const method of ['GET', 'PATCH', 'DELETE']) {
      t.match(await me(method, method === 'PATCH' ? { full_name: 'A' } : undefined),
        { status: 401, body: { code: 'invalid_token' } }, `${change}: ${method}`)
    }
  }
})

t.test('401: the account is deleted while the request is in flight', async (t) => {
  const service = await testService(t)
  for (const [method, path, body] of [
    ['PATCH', 'users/me', { full_name: 'A' }], ['DELETE', 'users/me', undefined],
    ['POST', 'profile/addresses', { title: 'a', full_address: 'b' }]
  ] as const) {
    const { id, token } = await person(service)
    const lock = await holdLock(t, service.database.url, 'DELETE FROM users WHERE id = $1', [id])
    const response = service.request(method, `/api/v1/${path}`, { token, body })
    await lock.isAwaited()
    await lock.release()
    t.match(await response, { status: 401, body: { code: 'invalid_token' } }, method)
  }
})
