import t, { type Test } from 'tap'
import { testRole } from '../helpers/catalog.js'
import { newPhone, testDatabase, testService, usersTable } from '../helpers/service.js'

/**
 * Starts the service on the table of an earlier system, without migrations, with a role that has only the necessary
 * rights.
 */
async function takeover (t: Test, more = '') {
  const role = await testRole(t)
  const { url, sql } = await testDatabase(t, { isEmpty: true })
  await sql(usersTable)
  await sql(more)
  await sql(`GRANT SELECT, INSERT, UPDATE, DELETE ON users TO ${role.name};
    GRANT USAGE ON SEQUENCE users_id_seq TO ${role.name}`)
  return testService(t, { database: { url: role.in(url), sql } })
}
type Service = Awaited<ReturnType<typeof takeover>>

/** Does everything that works without a migration, for the owner of `phone`. */
async function walk (t: Test, service: Service, phone: string) {
  const first = await service.login(phone)
  const me = (method: string, token: string, body?: object) =>
    service.request(method, '/api/v1/users/me', { token, body })
  t.match(await me('GET', first.token), { status: 200, body: { id: first.user.id, phone_number: phone } })
  const changes = { full_name: 'Айбек', language: 'ky', profile_image_url: 'https://example.com/a.png' }
  t.match(await me('PATCH', first.token, changes), { status: 200, body: changes })
  t.equal((await service.request('POST', '/api/v1/auth/logout', { token: first.token })).status, 200)
  t.equal((await me('GET', first.token)).status, 401)

  await service.redis.flushdb()
  const second = await service.login(phone)
  t.equal(second.body.is_new_user, false)
  t.equal((await me('DELETE', second.token)).status, 204)
  t.equal((await me('GET', second.token)).status, 401)
  t.strictSame(await service.sql('SELECT FROM users WHERE id = $1', [first.user.id]), [])
  return first
}

const surroundings = {
  'the table of the contract': '',
  'a database that writes its dates in another style': `DO $$ BEGIN
    EXECUTE format('ALTER DATABASE %I SET datestyle = German', current_database()); END $$`,
  'a table with more columns': `ALTER TABLE users
    ADD COLUMN email VARCHAR(255), ADD COLUMN password_hash TEXT, ADD COLUMN preferences JSONB`
}

for (const [kind, more] of Object.entries(surroundings)) {
  t.test(`${kind} serves a new user without any migration`, async (t) => {
    const service = await takeover(t, more)
    t.equal((await walk(t, service, newPhone())).body.is_new_user, true)
    t.equal((await walk(t, service, newPhone('us'))).body.is_new_user, true)
  })

  t.test(`${kind} serves a row with NULL in every nullable column`, async (t) => {
    const service = await takeover(t, more)
    for (const market of ['kg', 'us'] as const) {
      const phone = newPhone(market)
      const [row] = await service.sql(`INSERT INTO users
          (phone_number, is_active, is_verified, market, language, country, created_at, updated_at)
        VALUES ($1, NULL, NULL, NULL, NULL, NULL, NULL, NULL) RETURNING *`, [phone])
      const isFilled = ([, value]: [string, unknown]) => value !== null
      t.strictSame(Object.entries(row).filter(isFilled).map(([name]) => name), ['id', 'phone_number'])
      t.match(await walk(t, service, phone), {
        user: { id: row.id, is_active: true, is_verified: true, full_name: null, market },
        body: { is_new_user: false }
      })
    }
  })
}

t.test('a login keeps the columns that it does not write', async (t) => {
  const service = await takeover(t, 'ALTER TABLE users ADD COLUMN email TEXT')
  const phone = newPhone('us')
  await service.sql(`INSERT INTO users
      (phone_number, full_name, profile_image_url, is_active, language, country, created_at, updated_at, email)
    VALUES ($1, 'Jane', 'ftp://old/picture', false, 'tlh', 'Narnia', '2020-01-01', '2020-01-01', 'jane@example.com')`,
  [phone])
  const { user } = await service.login(phone)
  t.match(await service.sql('SELECT * FROM users WHERE id = $1', [user.id]), [{
    phone_number: phone,
    full_name: 'Jane',
    profile_image_url: 'ftp://old/picture',
    is_active: true,
    is_verified: true,
    market: 'us',
    language: 'tlh',
    country: 'Narnia',
    email: 'jane@example.com'
  }])
  t.strictSame(
    await service.sql("SELECT created_at = '2020-01-01' AS same, updated_at > '2021-01-01' AS written FROM users"),
    [{ same: true, written: true }]
  )
})

t.test('before db:migrate only the addresses are unavailable', async (t) => {
  const service = await takeover(t)
  const { token } = await service.login(newPhone())
  for (const [method, path, body] of [
    ['GET', '', undefined], ['POST', '', { title: 'a', full_address: 'b' }], ['DELETE', '/1', undefined]
  ] as const) {
    const response = await service.request(method, `/api/v1/profile/addresses${path}`, { token, body })
    t.equal(response.status, 503)
    t.equal(response.body.code, 'unavailable')
  }
  t.equal((await service.request('GET', '/api/v1/users/me', { token })).status, 200)
  t.equal((await service.request('GET', '/health/ready')).status, 200)
})
