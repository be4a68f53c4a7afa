import t from 'tap'
import { newPhone, testService, type Json, type Service } from '../helpers/service.js'

const base = '/api/v1/profile/addresses'
const required = { title: 'Home', full_address: 'Bishkek, Chuy Avenue 1' }
const optional = {
  street: 'проспект Чуй',
  building: '1',
  apartment: '2а',
  city: 'Бишкек',
  state: 'Чуй',
  postal_code: '720000'
}
const withoutOptional = Object.fromEntries(Object.keys(optional).map((field) => [field, null]))
const limits = {
  title: 100,
  full_address: 500,
  street: 200,
  building: 50,
  apartment: 20,
  city: 100,
  state: 50,
  postal_code: 20,
  country: 100
}

/** A signed-in person with the requests for their addresses. */
async function person (service: Service, market: 'kg' | 'us' = 'kg') {
  const { token, user } = await service.login(newPhone(market))
  const request = (method: string, path: string | number = '', body?: unknown) =>
    service.request(method, `${base}${path === '' ? '' : `/${path}`}`, { token, body })
  return {
    request,
    async create (fields: object = {}): Promise<Json> {
      const { status, body } = await request('POST', '', { ...required, ...fields })
      if (status !== 201) throw new Error(`POST responded ${status} ${body.code}`)
      return body.address
    },
    list: async (): Promise<Json[]> => (await request('GET')).body.addresses,
    rows: () => service.sql('SELECT * FROM user_addresses WHERE user_id = $1 ORDER BY id', [user.id])
  }
}

const iso = /^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z$/
/** A value in the name of an assertion, which must be one line. */
const shownAs = (field: string, value: unknown) => `${field} ${encodeURI(JSON.stringify(value) ?? '').slice(0, 40)}`

t.test('200: the list is empty without addresses', async (t) => {
  const { request } = await person(await testService(t))
  const { status, body, headers } = await request('GET')
  t.equal(status, 200)
  t.equal(headers.get('cache-control'), 'no-store')
  t.strictSame(body, { success: true, addresses: [], total: 0 })
})

t.test('201: an address has the given fields, the country of the market, and null otherwise', async (t) => {
  const service = await testService(t)
  for (const [market, country] of [['kg', 'Kyrgyzstan'], ['us', 'United States']] as const) {
    const { request } = await person(service, market)
    for (const [given, expected] of [
      [required, { ...required, ...withoutOptional, country, is_default: true }],
      [
        { ...required, ...withoutOptional, country: null, is_default: false },
        { ...required, ...withoutOptional, country, is_default: false }
      ],
      [
        { ...required, ...optional, country: 'Кыргызстан', is_default: true },
        { ...required, ...optional, country: 'Кыргызстан', is_default: true }
      ]
    ]) {
      const { status, body, headers } = await request('POST', '', given)
      t.equal(status, 201)
      t.equal(headers.get('cache-control'), 'no-store')
      t.match(body, { message: /./, address: { id: Number, created_at: iso, updated_at: iso } })
      const { id, created_at: createdAt } = body.address
      t.ok(Math.abs(Date.parse(createdAt) - Date.now()) < 60_000)
      t.strictSame(body, {
        success: true, message: body.message, address: { id, ...expected, created_at: createdAt, updated_at: createdAt }
      })

      t.equal(headers.get('location'), `${base}/${id}`)
      const shown = await request('GET', id)
      t.equal(shown.status, 200)
      t.equal(shown.headers.get('cache-control'), 'no-store')
      t.strictSame(shown.body, { success: true, address: body.address })
    }
  }
})

t.test('timestamps have milliseconds and UTC, whatever precision PostgreSQL writes', async (t) => {
  const service = await testService(t)
  const { create, request } = await person(service)
  const { id } = await create()
  for (const [stored, shown] of [
    ['2026-01-02 03:04:05', '2026-01-02T03:04:05.000Z'],
    ['2026-01-02 03:04:05.6', '2026-01-02T03:04:05.600Z'],
    ['2026-01-02 03:04:05.123456', '2026-01-02T03:04:05.123Z']
  ] as const) {
    await service.sql('UPDATE user_addresses SET created_at = $1, updated_at = $1 WHERE id = $2', [stored, id])
    t.match((await request('GET')).body.addresses, [{ id, created_at: shown, updated_at: shown }])
    t.match((await request('GET', id)).body.address, { id, created_at: shown, updated_at: shown })
  }
})

t.test('200: the list has the default first, then the newest', async (t) => {
  const { create, request } = await person(await testService(t))
  const made = []
  for (let number = 0; number < 4; number++) {
    made.push(await create({ title: `address ${number}`, is_default: number === 1 }))
  }
  const [a, b, c, d] = made
  const { body } = await request('GET')
  t.strictSame(body, { success: true, total: 4, addresses: [b, d, c, (await request('GET', a.id)).body.address] })
})

/** The three ways to write fields, each with a path. */
const writes = [['POST', false], ['PUT', true], ['PATCH', true]] as const

for (const [method, isChange] of writes) {
  t.test(`${method} accepts every field up to its length in characters and refuses one more`, async (t) => {
    const { request, create, rows } = await person(await testService(t))
    const path = isChange ? (await create()).id : ''
    for (const [field, length] of Object.entries(limits)) {
      for (const character of ['a', 'я', '😀']) {
        const longest = character.repeat(length)
        const taken = await request(method, path, { ...required, [field]: longest })
        t.equal(taken.status, isChange ? 200 : 201, field)
        t.equal(taken.body.address[field], longest)
        const before = await rows()
        const refused = await request(method, path, { ...required, [field]: longest + character })
        t.match(refused, { status: 422, body: { code: 'invalid_request', errors: [{ field: `/${field}` }] } })
        t.strictSame(await rows(), before)
      }
    }
  })

  t.test(`${method} refuses values of a wrong type and writes nothing`, async (t) => {
    const { request, create, rows } = await person(await testService(t))
    const { id } = await create()
    const path = isChange ? id : ''
    const before = await rows()
    const refuses = async (body: unknown, shown: string) => {
      const response = await request(method, path, body)
      t.match(response, { status: 422, headers: Headers, body: { code: 'invalid_request' } }, shown)
      t.equal(response.headers.get('cache-control'), 'no-store')
    }
    for (const field of Object.keys(limits)) {
      for (const value of [
        5, true, [], {}, ['a'], 'a\0b', '\ud800', 'a\tb', 'a\u001b[31mb', 'a\u009bb', 'a\u202eb', 'a\u2066b', 'a\rb'
      ]) {
        await refuses({ ...required, [field]: value }, shownAs(field, value))
      }
    }
    for (const field of Object.keys(required)) {
      for (const value of ['', ' ', '\t\n', null]) await refuses({ ...required, [field]: value }, shownAs(field, value))
    }
    for (const value of [null, 'true', 1, 0, []]) {
      await refuses({ ...required, is_default: value }, shownAs('is_default', value))
    }
    for (const body of ['null', '[]', '"a"', '5', '']) await refuses(body, body)
    t.strictSame(await rows(), before)
  })

  t.test(`${method} accepts line breaks in full_address only`, async (t) => {
    const { request, create } = await person(await testService(t))
    const path = isChange ? (await create()).id : ''
    for (const text of ['Chuy 1\nOsh', 'Chuy 1\r\nOsh\r\n']) {
      const { body } = await request(method, path, { ...required, full_address: text })
      t.equal(body.address.full_address, text, 'stored unchanged')
      for (const field of Object.keys(limits).filter((name) => name !== 'full_address')) {
        const refused = await request(method, path, { ...required, [field]: text })
        t.match(refused,
          { status: 422, body: { errors: [{ field: `/${field}`, message: /control characters, line breaks/ }] } })
      }
    }
    const { body } = await request(method, path, { ...required, full_address: 'a\u001bb' })
    t.match(body.errors, [{ field: '/full_address', message: /control characters other than line breaks/ }])
  })

  t.test(`${method} ignores unknown members`, async (t) => {
    const { request, create, rows } = await person(await testService(t))
    const { id } = await create()
    const strange = {
      id: 999_999,
      user_id: 999_999,
      userId: 999_999,
      created_at: '2020-01-01T00:00:00Z',
      createdAt: '2020-01-01',
      isDefault: true,
      fullAddress: 'X',
      note: 'X'
    }
    const { body } = await request(method, isChange ? id : '', { ...required, ...strange })
    t.ok(body.address.id < 999_999)
    t.ok(body.address.created_at > '2020-01-02')
    t.strictSame(Object.keys(body.address),
      ['id', ...Object.keys(required), ...Object.keys(optional), 'country', 'is_default', 'created_at', 'updated_at'])
    t.match((await rows()).at(-1), { id: body.address.id, full_address: required.full_address, is_default: isChange })
  })
}

t.test('lists requested at once are one statement, and each user gets their own', async (t) => {
  const service = await testService(t)
  const tokens = (await Promise.all(Array.from({ length: 4 }, () => service.login(newPhone())))).map(
    ({ token }) => token)
  for (const [index, token] of tokens.entries()) {
    for (let number = 0; number < index; number++) {
      await service.request('POST', base, { token, body: { ...required, title: `Of ${index}` } })
    }
  }
  let statements = 0
  for (const pool of service.app.db.pools) pool.on('acquire', () => { statements++ })
  const lists = await Promise.all(
    tokens.map((token) => service.app.inject({ url: base, headers: { authorization: `Bearer ${token}` } })))
  t.strictSame(lists.map((list) => list.json().addresses.map(({ title }: Json) => title)),
    [[], ['Of 1'], ['Of 2', 'Of 2'], ['Of 3', 'Of 3', 'Of 3']])
  t.equal(statements, 2, 'one active check and one statement for the lists')
})

t.test('422: a missing required field is named', async (t) => {
  const { request } = await person(await testService(t))
  const { body } = await request('POST', '', {})
  t.strictSame(body.errors.map(({ field }: Json) => field).sort(), ['/full_address', '/title'])
})

for (const method of ['PUT', 'PATCH']) {
  t.test(`200: ${method} changes the given fields, and null clears a field`, async (t) => {
    const { request, create } = await person(await testService(t), 'us')
    const before = await create({ ...optional, country: 'Кыргызстан' })
    let expected = before
    for (const [given, difference] of [
      [{ title: 'Work' }, { title: 'Work' }],
      [{ full_address: 'Osh', street: '' }, { full_address: 'Osh', street: '' }],
      [withoutOptional, withoutOptional],
      [optional, optional],
      [{ country: 'Narnia' }, { country: 'Narnia' }],
      [{ country: null }, { country: 'United States' }],
      [{}, {}]
    ]) {
      const { status, body, headers } = await request(method, before.id, given)
      t.equal(status, 200)
      t.equal(headers.get('cache-control'), 'no-store')
      t.ok(body.message)
      expected = { ...expected, ...difference, updated_at: body.address.updated_at }
      t.strictSame(body, { success: true, message: body.message, address: expected })
      t.strictSame((await request('GET', before.id)).body, { success: true, address: expected })
    }
    t.ok(expected.updated_at > before.updated_at)
  })
}

t.test('200: an address is deleted; a second deletion is 404', async (t) => {
  const { request, create, rows } = await person(await testService(t))
  const { id } = await create()
  const { status, body, headers } = await request('DELETE', id)
  t.equal(status, 200)
  t.equal(headers.get('cache-control'), 'no-store')
  t.ok(body.message)
  t.strictSame(body, { success: true, message: body.message })
  t.strictSame(await rows(), [])
  for (const [method, change] of [
    ['DELETE', undefined], ['GET', undefined], ['PUT', required], ['PATCH', required]
  ] as const) {
    t.match(await request(method, id, change), { status: 404, body: { code: 'not_found' } }, method)
  }
})

t.test('404: the address of another person, for every method, and it does not change', async (t) => {
  const service = await testService(t)
  const [owner, other] = [await person(service), await person(service)]
  const { id } = await owner.create()
  await other.create()
  const before = [await owner.rows(), await other.rows()]
  for (const method of ['GET', 'PUT', 'PATCH', 'DELETE']) {
    for (const change of [{ title: 'stolen' }, { is_default: true }]) {
      const { status, body } = await other.request(method, id, ['PUT', 'PATCH'].includes(method) ? change : undefined)
      t.equal(status, 404, method)
      t.equal(body.code, 'not_found')
    }
  }
  t.strictSame([await owner.rows(), await other.rows()], before)
})

t.test('404: anything that is not an id', async (t) => {
  const { request, create, rows } = await person(await testService(t))
  const { id } = await create()
  const before = await rows()
  for (const path of [
    'abc', '0', '-1', '1.5', '2147483647', '2147483648', '99999999999999999999', '9'.repeat(200), '%00', '%20',
    `0${id}`, `+${id}`, `${id}%20`, `${id}e0`, `0x${id}`, 'null', '%D1%8F', `${id}/x`
  ]) {
    for (const [method, change] of [
      ['GET', undefined], ['PUT', required], ['PATCH', required], ['DELETE', undefined]
    ] as const) {
      t.match(await request(method, path, change), { status: 404, body: { code: 'not_found' } }, `${method} ${path}`)
    }
  }
  t.strictSame(await rows(), before)
})
