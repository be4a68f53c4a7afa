import { drizzle } from 'drizzle-orm/node-postgres'
import pg from 'pg'
import t, { type Test } from 'tap'
import { migrate } from '../../src/db/migrate.js'
import { usersShape } from '../../src/db/users-shape.js'
import { relationsOf, testRole } from '../helpers/catalog.js'
import { claimsOf } from '../helpers/forge.js'
import { newPhone, testDatabase, testService, usersTable, type Json } from '../helpers/service.js'

/** A database with the users table of the contract, changed by the statements in `more`. */
async function usersDatabase (t: Test, more: string, table = usersTable) {
  const database = await testDatabase(t, { isEmpty: true })
  await database.sql(table)
  await database.sql(more)
  return database
}

/** The shape that a connection to this URL finds. */
async function shapeOf (t: Test, url: string) {
  const client = new pg.Client(url)
  await client.connect()
  t.teardown(() => client.end())
  return usersShape(drizzle({ client }))
}

const broken: Array<[kind: string, more: string, issue: RegExp]> = [
  [
    'no market', 'ALTER TABLE users DROP COLUMN market',
    /column market is missing: ALTER TABLE public.users ADD COLUMN market varchar\(10\)$/
  ],
  ['UUID ids', 'ALTER TABLE users DROP COLUMN id, ADD COLUMN id UUID DEFAULT gen_random_uuid() PRIMARY KEY',
    /column id has the type uuid, the service needs integer or bigint/],
  [
    'dates of login', 'ALTER TABLE users ALTER COLUMN last_login TYPE DATE',
    /column last_login has the type date, .* TYPE timestamp/
  ],
  [
    'flags that are numbers', 'ALTER TABLE users DROP COLUMN is_active, ADD COLUMN is_active INTEGER',
    /column is_active has the type integer/
  ],
  [
    'short numbers', 'ALTER TABLE users ALTER COLUMN phone_number TYPE VARCHAR(12)',
    /column phone_number holds 12 characters, .* up to 16/
  ],
  [
    'no UNIQUE', 'ALTER TABLE users DROP CONSTRAINT users_phone_number_key',
    /column phone_number has no UNIQUE .*ADD UNIQUE \(phone_number\)$/
  ],
  ['a UNIQUE over some rows', `ALTER TABLE users DROP CONSTRAINT users_phone_number_key;
    CREATE UNIQUE INDEX ON users (phone_number) WHERE is_active`, /column phone_number has no UNIQUE/],
  ['a UNIQUE over two columns', `ALTER TABLE users DROP CONSTRAINT users_phone_number_key;
    CREATE UNIQUE INDEX ON users (phone_number, market)`, /column phone_number has no UNIQUE/],
  ['a UNIQUE that can be deferred', `ALTER TABLE users DROP CONSTRAINT users_phone_number_key;
    ALTER TABLE users ADD UNIQUE (phone_number) DEFERRABLE`, /column phone_number has no UNIQUE/],
  [
    'a required email', 'ALTER TABLE users ADD COLUMN email TEXT NOT NULL',
    /column email is NOT NULL without a default, .* DROP NOT NULL/
  ],
  [
    'a required name', 'ALTER TABLE users ALTER COLUMN full_name SET NOT NULL',
    /column full_name is NOT NULL without a default/
  ],
  [
    'ids that another system assigns', 'ALTER TABLE users ALTER COLUMN id DROP DEFAULT',
    /column id is NOT NULL .* AS IDENTITY$/
  ],
  [
    'a generated country',
    "ALTER TABLE users DROP COLUMN country, ADD COLUMN country TEXT GENERATED ALWAYS AS ('KG') STORED",
    /column country is generated, .* DROP EXPRESSION/
  ],
  ['a CHECK for one market', "ALTER TABLE users ADD CONSTRAINT home CHECK (market = 'kg')",
    /column market: constraint home refuses .* market us with language ru: ALTER TABLE users DROP CONSTRAINT home/],
  [
    'a CHECK for one country code', "ALTER TABLE users ADD CONSTRAINT code CHECK (phone_number LIKE '+996%') NOT VALID",
    /column phone_number: constraint code/
  ],
  ['a CHECK for two languages', "ALTER TABLE users ADD CHECK (language IN ('ru', 'en'))", /market kg with language ky/],
  [
    'a CHECK that fails', 'ALTER TABLE users ADD CONSTRAINT sum CHECK (1 / (length(market) - 2) > 0)',
    /constraint sum cannot be .*division by zero/
  ],
  ['a market of another type', `CREATE TYPE market AS ENUM ('kg'); ALTER TABLE users ALTER COLUMN market DROP DEFAULT,
    ALTER COLUMN market TYPE market USING market::market`,
  /type of a column .*invalid input value for enum market: "us"/],
  ['a market of a domain', `CREATE DOMAIN home AS VARCHAR(10) CHECK (VALUE = 'kg');
    ALTER TABLE users ALTER COLUMN market TYPE home`, /type of a column .*domain home/]
]

for (const [kind, more, line] of broken) {
  t.test(`db:migrate stops at users with ${kind}, in one line that says what to do, and changes nothing`, async (t) => {
    const { url, sql } = await usersDatabase(t, more)
    const before = await relationsOf(sql)

    const { issues } = await shapeOf(t, url)
    t.match(issues, [line])
    t.equal(issues.length, 1)
    t.match(issues[0], /^public\.users: /)
    await t.rejects(migrate(url), { message: `${issues[0]}; nothing was changed` })
    t.strictSame(await relationsOf(sql), before)
  })
}

const fitting: Array<[kind: string, more: string]> = [
  ['the columns of the contract', ''],
  [
    'BIGINT identity ids',
    'ALTER TABLE users DROP COLUMN id, ADD COLUMN id BIGINT GENERATED ALWAYS AS IDENTITY PRIMARY KEY'
  ],
  ['text and timestamptz', `ALTER TABLE users ALTER COLUMN phone_number TYPE TEXT, ALTER COLUMN market TYPE TEXT,
    ALTER COLUMN last_login TYPE TIMESTAMPTZ, ALTER COLUMN created_at TYPE TIMESTAMPTZ,
    ALTER COLUMN updated_at TYPE TIMESTAMPTZ`],
  ['more columns', `ALTER TABLE users ADD COLUMN email TEXT, ADD COLUMN role TEXT NOT NULL DEFAULT 'member',
    ADD COLUMN shown TEXT GENERATED ALWAYS AS (full_name) STORED`],
  ['a unique index instead of a constraint', `ALTER TABLE users DROP CONSTRAINT users_phone_number_key;
    CREATE UNIQUE INDEX ON users (phone_number) INCLUDE (is_active)`],
  [
    'NOT NULL where the service writes',
    'ALTER TABLE users ALTER COLUMN market SET NOT NULL, ALTER COLUMN last_login SET NOT NULL'
  ],
  ['CHECKs that a new user meets', `ALTER TABLE users ADD CHECK (phone_number ~ '^\\+[0-9]+$'),
    ADD CHECK (full_name <> ''), ADD CHECK (users IS NOT NULL OR TRUE)`],
  [
    'a CHECK over a column with a default',
    "ALTER TABLE users ADD COLUMN kind TEXT DEFAULT 'person', ADD CHECK (kind IS NOT NULL)"
  ],
  ['an enumeration of all markets', `CREATE TYPE market AS ENUM ('kg', 'us', 'kz');
    ALTER TABLE users ALTER COLUMN market DROP DEFAULT, ALTER COLUMN market TYPE market USING market::market`]
]

for (const [kind, more] of fitting) {
  t.test(`users with ${kind} fits: a first login registers, and the next one finds the user`, async (t) => {
    const { url, sql } = await usersDatabase(t, more)

    t.strictSame(await shapeOf(t, url), { table: 'public.users', issues: [] })
    t.equal(await migrate(url), 'public.users')
    const service = await testService(t, { database: { url, sql } })
    const phone = newPhone('us')
    t.equal((await service.login(phone)).body.is_new_user, true)
    await service.redis.flushdb()
    t.equal((await service.login(phone)).body.is_new_user, false)
  })
}

for (const [kind, policies, issue] of [
  ['no policy', '', /row level security for DELETE refuses a user of market kg/],
  [
    'a policy for one market', "CREATE POLICY home ON users USING (market = 'kg')",
    /row level security for DELETE refuses a user of market us/
  ],
  [
    'a policy for a setting', "CREATE POLICY tenant ON users USING (id = current_setting('app.id')::int)",
    /cannot be evaluated .*app\.id/
  ],
  [
    'a policy for reading alone', 'CREATE POLICY reading ON users FOR SELECT USING (TRUE)',
    /row level security for DELETE/
  ],
  [
    'a restrictive policy',
    'CREATE POLICY everything ON users; CREATE POLICY none ON users AS RESTRICTIVE USING (is_verified IS NULL)',
    /row level security/
  ],
  ['a policy of another role', 'CREATE POLICY others ON users TO pg_monitor USING (TRUE)', /row level security/],
  ['a policy that shows all', 'CREATE POLICY everything ON users USING (TRUE)', undefined],
  ['a policy for this role', 'CREATE POLICY mine ON users TO ROLE_NAME USING (current_user = \'ROLE_NAME\')', undefined]
] as const) {
  t.test(`row level security with ${kind} is ${issue ? 'an issue' : 'no issue'}`, async (t) => {
    const role = await testRole(t)
    const { url, sql } = await usersDatabase(
      t, `ALTER TABLE users ENABLE ROW LEVEL SECURITY; ${policies.replaceAll('ROLE_NAME', role.name)}`
    )

    const { issues } = await shapeOf(t, role.in(url))
    if (issue) t.match(issues[0], issue)
    else t.strictSame(issues, [])
    t.strictSame((await shapeOf(t, url)).issues, [], 'the owner is not subject to it')
    await sql('DROP TABLE users')
  })
}

t.test('db:migrate creates no second users table if the first one is outside the search_path', async (t) => {
  const { url, sql } = await testDatabase(t, { isEmpty: true })
  await sql('CREATE SCHEMA app; CREATE SCHEMA other; CREATE TABLE other.users (id INT)')
  await sql(usersTable.replace('users', 'app.users'))
  const before = await relationsOf(sql)
  const line =
    /^no table users was created, as app\.users is outside the search_path: .*search_path.*; nothing was changed$/

  await t.rejects(migrate(url), { message: line })
  t.strictSame(await relationsOf(sql), before)
  t.match((await shapeOf(t, url)).issues, [/^no table users: app\.users is outside the search_path/])
  await sql(`CREATE SCHEMA "Last"; ${usersTable.replace('users', '"Last".users')}`)
  await t.rejects(migrate(url), { message: /"Last"\.users and app\.users are outside/ })
})

const ready = (service: Awaited<ReturnType<typeof testService>>) => service.request('GET', '/health/ready')
const shapeLines = (log: string[]) =>
  log.map((line) => JSON.parse(line) as Json).filter(({ event }) => event === 'users_shape')

t.test('the service starts with a wrong shape, logs each issue once, and is ready after a correction', async (t) => {
  const database = await usersDatabase(
    t, 'ALTER TABLE users DROP CONSTRAINT users_phone_number_key, ADD COLUMN email TEXT NOT NULL'
  )
  const service = await testService(t, { database })

  for (let probe = 0; probe < 3; probe++) {
    t.match(
      await ready(service), { status: 503, body: { status: 'unavailable', checks: { database: 'down', redis: 'up' } } }
    )
  }
  t.match(shapeLines(service.log), [
    { level: 50, msg: /column email is NOT NULL .* DROP NOT NULL/ },
    { level: 50, msg: /column phone_number has no UNIQUE .* ADD UNIQUE/ }
  ])
  t.equal(shapeLines(service.log).length, 2)
  t.equal((await service.request('GET', '/health/live')).status, 200)

  await database.sql('ALTER TABLE users ALTER COLUMN email DROP NOT NULL')
  t.equal((await ready(service)).status, 503)
  await database.sql('ALTER TABLE users ADD UNIQUE (phone_number)')
  t.equal((await ready(service)).status, 200)
  t.match(shapeLines(service.log)[2], { level: 30 })
  t.equal(shapeLines(service.log).length, 3)
  t.ok(await service.login(newPhone()))
})

t.test('many simultaneous probes of a wrong shape share one check and log each issue once', async (t) => {
  const database = await usersDatabase(t, 'ALTER TABLE users DROP COLUMN market')
  const service = await testService(t, { database })

  const probes = await Promise.all(Array.from({ length: 20 }, () => ready(service)))
  t.strictSame([...new Set(probes.map(({ status }) => status))], [503])
  t.equal(shapeLines(service.log).length, 1)
})

t.test('readiness is 503 without the right to read one column, and the log says so', async (t) => {
  const role = await testRole(t)
  const database = await usersDatabase(t, `GRANT SELECT (id, phone_number, full_name, profile_image_url, is_active,
    is_verified, last_login, market, language, created_at, updated_at) ON users TO ${role.name}`)
  const service = await testService(t, { database: { ...database, url: role.in(database.url) } })

  t.equal((await ready(service)).status, 503)
  t.match(
    service.log.map((line) => JSON.parse(line) as Json).filter(({ event }) => event === 'dependency_down'),
    [{ err: { code: '42501' } }]
  )
  await database.sql(`GRANT SELECT (country) ON users TO ${role.name}`)
  t.equal((await ready(service)).status, 200)
  await database.sql('DROP TABLE users')
})

for (const [kind, statement] of [
  ['UUID ids', 'ALTER TABLE users DROP COLUMN id CASCADE, ADD COLUMN id UUID DEFAULT gen_random_uuid() PRIMARY KEY'],
  ['no is_active', 'ALTER TABLE users DROP COLUMN is_active'],
  ['no last_login', 'ALTER TABLE users DROP COLUMN last_login'],
  ['flags that are text', 'ALTER TABLE users ALTER COLUMN is_active DROP DEFAULT, ALTER COLUMN is_active TYPE TEXT'],
  ['no created_at', 'ALTER TABLE users DROP COLUMN created_at; UPDATE users SET last_login = NULL']
] as const) {
  t.test(`verify-token is 503 while users has ${kind}, and 200 after that is corrected`, async (t) => {
    const service = await testService(t)
    const { token } = await service.login(newPhone())
    const verify = (method = 'GET') => service.request(method, '/auth/verify-token', { token })
    t.equal((await verify()).status, 200)

    await service.sql('CREATE TABLE saved AS TABLE users')
    await service.sql(statement)
    for (const method of ['GET', 'POST']) {
      t.match(await verify(method), { status: 503, body: { code: 'unavailable', retry_after: 2 } })
    }
    await service.sql(`DROP TABLE users CASCADE; ${usersTable}; INSERT INTO users SELECT * FROM saved`)
    t.equal((await verify()).status, 200)
  })
}

t.test('timestamptz columns hold the right times in any time zone of the database', async (t) => {
  const database = await usersDatabase(t, `ALTER TABLE users ALTER COLUMN last_login TYPE TIMESTAMPTZ,
    ALTER COLUMN created_at TYPE TIMESTAMPTZ, ALTER COLUMN updated_at TYPE TIMESTAMPTZ`)
  await database.sql(
    "DO $$ BEGIN EXECUTE format('ALTER DATABASE %I SET timezone = %L', current_database(), 'Asia/Bishkek'); END $$"
  )
  const service = await testService(t, { database })
  const { token, user } = await service.login(newPhone())
  const { iat } = claimsOf(token) as { iat: number }

  const times = await database.sql(`SELECT extract(epoch FROM last_login)::int AS login,
    abs(extract(epoch FROM created_at - now())) < 60 AS "isNow",
    abs(extract(epoch FROM updated_at - now())) < 60 AS "isWritten" FROM users`)
  t.strictSame(times, [{ login: iat, isNow: true, isWritten: true }])
  const { body } = await service.request('GET', '/api/v1/users/me', { token })
  t.equal(body.last_login, new Date(iat * 1000).toISOString())
  t.ok(Math.abs(Date.parse(body.created_at) - iat * 1000) < 60_000)
  t.equal((await service.request('POST', '/auth/logout', { token })).status, 200)
  t.strictSame(
    await database.sql('SELECT extract(epoch FROM last_login)::float8 AS login FROM users'), [{ login: iat + 1e-6 }]
  )
  t.equal((await service.request('GET', '/auth/verify-token', { token })).status, 401)
  await service.redis.del(await service.redis.keys('phone-auth:code:*'))
  t.equal((await service.login(user.phone)).body.is_new_user, false)
})

t.test('a user with a BIGINT id beyond the range of INTEGER has addresses', async (t) => {
  const database = await usersDatabase(
    t, '', usersTable.replace('SERIAL', 'BIGINT GENERATED ALWAYS AS IDENTITY (START 9007199254740991)')
  )
  t.equal(await migrate(database.url), 'public.users')
  t.equal(await migrate(database.url), 'public.users', 'again')
  const service = await testService(t, { database })
  const { token } = await service.login(newPhone())
  const path = '/api/v1/profile/addresses'

  const { body, status } = await service.request('POST', path, {
    token, body: { title: 'Home', full_address: 'Chuy 1' }
  })
  t.equal(status, 201)
  t.match(
    await service.request('GET', path, { token }),
    { status: 200, body: { total: 1, addresses: [{ id: body.address.id }] } }
  )
  t.equal((await service.request('DELETE', `${path}/${body.address.id}`, { token })).status, 200)
})
