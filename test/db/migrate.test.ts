import { getTableColumns } from 'drizzle-orm'
import { getTableConfig } from 'drizzle-orm/pg-core'
import t, { type Test } from 'tap'
import { migrate } from '../../src/db/migrate.js'
import { userAddresses, users } from '../../src/db/schema.js'
import { describeTable, relationsOf, rowsOf, testRole } from '../helpers/catalog.js'
import { freePort } from '../helpers/free-port.js'
import { holdLock } from '../helpers/locks.js'
import { startProcess } from '../helpers/server-process.js'
import { testDatabase, usersTable } from '../helpers/service.js'

const admin = process.env.TEST_POSTGRES_URL as string

/** Runs npm run db:migrate. */
const migrateCommand = async (t: Test, url: string | undefined) => {
  const { code, stdout, stderr } = await startProcess(t, 'migrate', { env: { DATABASE_URL: url } }).closed
  return { code, stdout, stderr }
}
const found = {
  code: 0,
  stdout: 'phone-auth: found the table public.users and left it as it is; the database is up to date\n',
  stderr: ''
}
const created = { code: 0, stdout: 'phone-auth: created the table users; the database is up to date\n', stderr: '' }

/** Asserts that a command ends with 1 and one line on standard error, without a stack. */
function failsWith (t: Test, { code, stdout, stderr }: Awaited<ReturnType<typeof migrateCommand>>, line: RegExp) {
  t.equal(code, 1)
  t.equal(stdout, '')
  t.match(stderr, line)
  t.match(stderr, /^phone-auth: .+\n$/)
  t.equal(stderr.split('\n').length, 2, 'one line')
}

const rows = `INSERT INTO users (phone_number, full_name, is_active, is_verified, last_login, market, language, country,
    created_at, updated_at) VALUES
  ('+996555000001', 'Айбек', true, true, '2024-02-29 23:59:59.123456', 'kg', 'ky', 'Kyrgyzstan',
    '2020-01-01', '2020-01-01'),
  ('+13128059851', NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL),
  ('+996555000003', '', false, false, NULL, 'xx', 'tlh', '', now(), now())`

/** What an earlier system may have put around its table; a dump shows all of it. */
const surroundings = `
  ALTER TABLE users ADD COLUMN dropped INTEGER DEFAULT 7;
  ALTER TABLE users DROP COLUMN dropped;
  ALTER TABLE users ADD COLUMN email VARCHAR(255), ADD COLUMN preferences JSONB DEFAULT '{}';
  ALTER TABLE users ALTER COLUMN full_name SET STATISTICS 500;
  ALTER TABLE users SET (fillfactor = 70);
  CREATE INDEX users_email_idx ON users (lower(email)) WHERE email IS NOT NULL;
  CREATE FUNCTION touch() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NEW; END';
  CREATE TRIGGER users_touch BEFORE UPDATE ON users FOR EACH ROW EXECUTE FUNCTION touch();
  ALTER TABLE users ADD CONSTRAINT users_market_check CHECK (length(market) > 1) NOT VALID;
  CREATE TABLE orders (id SERIAL PRIMARY KEY, user_id INTEGER REFERENCES users (id));
  INSERT INTO orders (user_id) VALUES (1);
  CREATE VIEW active_users AS SELECT id FROM users WHERE is_active;
  COMMENT ON TABLE users IS 'people';
  COMMENT ON COLUMN users.phone_number IS 'E.164';
  SELECT setval('users_id_seq', 19)`

for (const [kind, extras] of [
  ['the users table of the contract', ''], ['a users table with much around it', surroundings]
] as const) {
  t.test(`db:migrate touches neither ${kind} nor any row`, async (t) => {
    const owner = await testRole(t)
    const { url, sql } = await testDatabase(t, { isEmpty: true })
    await sql(usersTable)
    await sql(rows)
    await sql(extras)
    await sql(`ALTER TABLE users OWNER TO ${owner.name}`)
    await sql('GRANT SELECT ON users TO PUBLIC')
    const before = { table: await describeTable(sql, 'users'), rows: await rowsOf(sql, 'users') }
    t.equal(before.rows.length, 3)

    t.strictSame(await migrateCommand(t, url), found)
    t.strictSame({ table: await describeTable(sql, 'users'), rows: await rowsOf(sql, 'users') }, before)
    t.strictSame(await sql("SELECT to_regclass('user_addresses')::text AS name"), [{ name: 'user_addresses' }])
    await sql(`INSERT INTO user_addresses
      (user_id, title, full_address, country, is_default, created_at, updated_at)
      VALUES (1, 'a', 'b', 'c', true, now(), now())`)
    const withAddress = await rowsOf(sql, 'user_addresses')

    await migrate(url)
    t.strictSame({ table: await describeTable(sql, 'users'), rows: await rowsOf(sql, 'users') }, before)
    t.strictSame(await rowsOf(sql, 'user_addresses'), withAddress)
  })
}

t.test('db:migrate creates the users table of the contract in an empty database', async (t) => {
  const [migrated, stated] = [await testDatabase(t, { isEmpty: true }), await testDatabase(t, { isEmpty: true })]
  await stated.sql(usersTable)
  t.strictSame(await migrateCommand(t, migrated.url), created)
  t.strictSame(await describeTable(migrated.sql, 'users'), await describeTable(stated.sql, 'users'))
})

t.test('user_addresses is the same beside an existing users table and beside a created one', async (t) => {
  const [found, made] = [await testDatabase(t, { isEmpty: true }), await testDatabase(t, { isEmpty: true })]
  await found.sql(usersTable)
  await migrate(found.url)
  await migrate(made.url)
  t.strictSame(await describeTable(made.sql, 'user_addresses'), await describeTable(found.sql, 'user_addresses'))
})

t.test('the Drizzle schema describes what the migrations create', async (t) => {
  const { sql } = await testDatabase(t)
  for (const table of [users, userAddresses]) {
    const { name, indexes, foreignKeys } = getTableConfig(table)
    const found = await describeTable(sql, name) as Record<string, Array<Record<string, string>>>
    t.strictSame(found.columns?.map(({ attname, attnotnull }) => [attname, attnotnull]),
      Object.values(getTableColumns(table)).map((column) => [column.name, column.notNull]))
    for (const { config } of indexes) {
      t.ok(found.indexes?.some((index) => index.pg_get_indexdef?.includes(` ${config.name} `)), `index ${config.name}`)
    }
    const constraints = found.constraints?.filter(({ contype }) => contype === 'f')
    t.strictSame(constraints?.map(({ pg_get_constraintdef: text }) => text), foreignKeys.map((key) => {
      const column = key.reference().columns[0]?.name
      return `FOREIGN KEY (${column}) REFERENCES users(id) ON DELETE ${key.onDelete?.toUpperCase()}`
    }))
  }
})

for (const [count, where, statement] of [
  [2, 'an empty database', ''], [5, 'a database with users', usersTable]
] as const) {
  t.test(`${count} migrations at once on ${where} all succeed`, async (t) => {
    const { url, sql } = await testDatabase(t, { isEmpty: true })
    await sql(statement)
    const runs = await Promise.all(Array.from({ length: count }, () => migrateCommand(t, url)))
    t.strictSame(
      runs.filter(({ stdout }) => stdout !== found.stdout), statement ? [] : [created],
      'at most one run created the table'
    )
    t.equal(runs.every(({ code, stderr }) => code === 0 && stderr === ''), true)
    t.strictSame(await sql('SELECT count(*)::int FROM drizzle.__drizzle_migrations'), [{ count: 1 }])
  })
}

t.test('db:migrate names the columns that differ in a user_addresses table, and changes nothing', async (t) => {
  const fitting = await testDatabase(t)
  const definitions = await fitting.sql(`SELECT attname || ' ' || CASE attname
      WHEN 'id' THEN 'serial PRIMARY KEY'
      WHEN 'user_id' THEN 'integer NOT NULL REFERENCES users (id) ON DELETE CASCADE'
      ELSE format_type(atttypid, atttypmod) || CASE WHEN attnotnull THEN ' NOT NULL' ELSE '' END END AS sql
    FROM pg_attribute WHERE attrelid = 'user_addresses'::regclass AND attnum > 0 ORDER BY attnum`)
  const columns = definitions.map((row) => row.sql as string)
  const otherwise = (name: string, sql: string) =>
    `CREATE TABLE user_addresses (${columns.map((column) => column.startsWith(`${name} `) ? sql : column).join(', ')})`

  for (const [what, statement, line] of [
    [
      'a table of another system', 'CREATE TABLE user_addresses (id SERIAL PRIMARY KEY, user_id INTEGER, address TEXT)',
      /title, full_address/
    ],
    ['another type', otherwise('title', 'title text NOT NULL'), /\(title\)/],
    ['another length', otherwise('street', 'street varchar(20)'), /\(street\)/],
    ['a column that may be null', otherwise('country', 'country varchar(100)'), /\(country\)/],
    ['a column that may not be null', otherwise('city', 'city varchar(100) NOT NULL'), /\(city\)/],
    ['an id without a sequence', otherwise('id', 'id integer PRIMARY KEY'), /\(id\)/],
    ['no foreign key', otherwise('user_id', 'user_id integer NOT NULL'), /\(user_id\)/],
    [
      'a foreign key that does not cascade', otherwise('user_id', 'user_id integer NOT NULL REFERENCES users (id)'),
      /\(user_id\)/
    ],
    ['one required column more', otherwise('title', 'title varchar(100) NOT NULL, label text NOT NULL'), /\(label\)/],
    ['a view', 'CREATE VIEW user_addresses AS SELECT id, id AS user_id FROM users', /title/]
  ] as const) {
    const { url, sql } = await testDatabase(t, { isEmpty: true })
    await sql(usersTable)
    await sql(rows)
    await sql(statement)
    const before = {
      relations: await relationsOf(sql), users: await describeTable(sql, 'users'), rows: await rowsOf(sql, 'users')
    }
    await t.rejects(migrate(url), { message: line })
    t.strictSame(
      { relations: await relationsOf(sql), users: await describeTable(sql, 'users'), rows: await rowsOf(sql, 'users') },
      before, what
    )
  }
})

t.test('a user_addresses table of another shape ends the command with 1 and one line', async (t) => {
  const { url, sql } = await testDatabase(t, { isEmpty: true })
  await sql('CREATE TABLE user_addresses (id SERIAL PRIMARY KEY)')
  failsWith(t, await migrateCommand(t, url), /user_addresses/)
})

t.test('db:migrate keeps a user_addresses table of the right shape, for example from a restored dump', async (t) => {
  const { url, sql } = await testDatabase(t)
  await sql('DROP SCHEMA drizzle CASCADE')
  await sql('ALTER TABLE user_addresses ADD COLUMN note TEXT, ADD COLUMN version INTEGER NOT NULL DEFAULT 1')
  const before = await describeTable(sql, 'user_addresses')
  await migrate(url)
  t.strictSame(await describeTable(sql, 'user_addresses'), before)
})

t.test('db:migrate names what is missing in a users table of a wrong shape, and changes nothing', async (t) => {
  for (const [statement, line] of [
    [
      'CREATE TABLE users (id SERIAL PRIMARY KEY, email TEXT)',
      /column phone_number is missing.*\n.*column full_name is missing/
    ],
    [usersTable.replace('id SERIAL PRIMARY KEY', 'id SERIAL'), /unique constraint/]
  ] as const) {
    const { url, sql } = await testDatabase(t, { isEmpty: true })
    await sql(statement)
    const before = await relationsOf(sql)
    await t.rejects(migrate(url), { message: line })
    t.strictSame(await relationsOf(sql), before)
  }
})

t.test('db:migrate finds users in a later schema of the search_path and creates user_addresses there', async (t) => {
  const { url, sql } = await testDatabase(t, { isEmpty: true })
  await sql('CREATE SCHEMA first; CREATE SCHEMA "Second"')
  await sql(usersTable.replace('users', '"Second".users'))
  const inPath = new URL(url)
  inPath.searchParams.set('options', '-c search_path=first,"Second"')
  await migrate(inPath.href)
  t.strictSame(await sql(`SELECT relnamespace::regnamespace::text AS schema, relname FROM pg_class
    WHERE relname IN ('users', 'user_addresses') ORDER BY relname`), [
    { schema: '"Second"', relname: 'user_addresses' }, { schema: '"Second"', relname: 'users' }
  ])
})

t.test('db:migrate with a role without rights ends with one line and changes nothing', async (t) => {
  const role = await testRole(t)
  const { url, sql } = await testDatabase(t, { isEmpty: true })
  await sql(usersTable)
  const before = await relationsOf(sql)
  failsWith(t, await migrateCommand(t, role.in(url)), /permission denied/)
  // The role may now create a schema, but no table.
  await sql(`GRANT CREATE ON DATABASE ${new URL(url).pathname.slice(1)} TO ${role.name}`)
  await t.rejects(migrate(role.in(url)), { message: /permission denied/ })
  t.strictSame(await relationsOf(sql), before)
  await sql(`REVOKE CREATE ON DATABASE ${new URL(url).pathname.slice(1)} FROM ${role.name}`)
})

t.test('db:migrate ends with one line if the database is not reachable', async (t) => {
  const port = await freePort()
  for (const [url, message] of [
    [`postgres://u:hunter2@127.0.0.1:${port}/db`, /^PostgreSQL does not respond: .*ECONNREFUSED/],
    [`postgres://u:hunter2@localhost:${port}/db`, /^PostgreSQL does not respond: .*ECONNREFUSED/],
    [admin.replace(/postgres$/, 'nowhere'), /^PostgreSQL does not respond: .*does not exist/],
    [admin.replace(/:\w+@/, ':hunter2@'), /^PostgreSQL does not respond: .*password/]
  ] as const) await t.rejects(migrate(url), { message })
  const result = await migrateCommand(t, `postgres://u:hunter2@localhost:${port}/db`)
  failsWith(t, result, /ECONNREFUSED/)
  t.notMatch(result.stderr, /hunter2/)
})

t.test('db:migrate ends with one line that does not show an invalid DATABASE_URL', async (t) => {
  for (const url of [undefined, 'mysql://u:hunter2@127.0.0.1/db']) {
    const result = await migrateCommand(t, url)
    failsWith(t, result, /DATABASE_URL/)
    t.notMatch(result.stderr, /hunter2/)
  }
})

t.test('db:migrate gives up on a long lock of the users table, so that logins do not wait behind it', async (t) => {
  const { url, sql } = await testDatabase(t, { isEmpty: true })
  await sql(usersTable)
  const before = await relationsOf(sql)
  const lock = await holdLock(t, url, "INSERT INTO users (phone_number) VALUES ('+996555000001')")
  await t.rejects(migrate(url), { message: /lock timeout/ })
  await lock.release()
  t.strictSame(await relationsOf(sql), before)
  await migrate(url)
})

t.test('each of five migrations at once waits for its turn before it reads anything', async (t) => {
  const { url, sql } = await testDatabase(t, { isEmpty: true })
  const before = await relationsOf(sql)
  const lock = await holdLock(t, url, `SELECT pg_advisory_xact_lock(${0x70686f6e65})`)
  const runs = Promise.all(Array.from({ length: 5 }, () => migrate(url)))
  t.equal(await Promise.race([lock.isAwaited(5).then(() => 'waiting'), runs.then(() => 'done')]), 'waiting')
  t.strictSame(await relationsOf(sql), before)
  await lock.release()
  await runs
  t.equal((await sql('SELECT count(*)::int AS n FROM drizzle.__drizzle_migrations'))[0].n, 1)
})
