import t from 'tap'
import { migrate } from '../../src/db/migrate.js'
import { activeUsers, creationTimes, maxBatch } from '../../src/users/active.js'
import { holdLock } from '../helpers/locks.js'
import { startTestPostgres } from '../helpers/servers.js'
import { newPhone, testService } from '../helpers/service.js'

type Found = number | null | undefined | Error

t.test('one statement serves all lookups of a turn, and each gets its own row', async (t) => {
  const { app, sql } = await testService(t)
  await sql(`INSERT INTO users (phone_number, is_active, last_login) VALUES
    ('+996555000001', TRUE, '2024-02-29 12:00:00.9'), ('+996555000002', FALSE, now()), ('+996555000003', NULL, now()),
    ('+996555000004', TRUE, '1969-12-31 23:59:59.9'), ('+996555000005', TRUE, NULL)`)
  const counted: number[] = []
  const find = activeUsers(app.db, (users, seconds) => { if (seconds > 0) counted.push(users) })
  const ask = (id: number) =>
    new Promise<Found>((resolve) => find(id, (error, lastLogin) => resolve(error ?? lastLogin)))
  let statements = 0
  app.db.check.$client.on('acquire', () => { statements++ })

  t.strictSame(await Promise.all([1, 2, 3, 1, 4, 5, 6, 2_147_483_647].map(ask)),
    [1_709_208_000.9, undefined, undefined, 1_709_208_000.9, -0.1, null, undefined, undefined])
  t.equal(statements, 1)
  t.strictSame(counted, [7])
})

t.test('a lookup of created_at gives undefined without a row, and an error if the statement fails', async (t) => {
  const { app, sql } = await testService(t)
  await sql(`INSERT INTO users (phone_number, created_at)
    VALUES ('+996555000001', '2024-02-29 12:00:00.9'), ('+996555000002', NULL)`)
  const find = creationTimes(app.db)

  t.strictSame(await Promise.all([1, 2, 3].map(find)), [1_709_208_000, null, undefined])
  t.equal(await find(3), undefined, 'in a statement of its own')
  await sql('ALTER TABLE users RENAME TO people')
  await t.rejects(find(1), { cause: { code: '42P01' } })
})

t.test('a row with an infinite time breaks no other lookup', async (t) => {
  const service = await testService(t)
  const [{ token }, { user }] = [await service.login(newPhone()), await service.login(newPhone())]
  await service.sql("UPDATE users SET last_login = 'infinity' WHERE id = $1", [user.id])
  const find = activeUsers(service.app.db, () => {})
  const found = await Promise.all(
    [1, 2].map((id) => new Promise<unknown>((resolve) => find(id, (error, lastLogin) => resolve(error ?? lastLogin)))))
  t.equal(found[0], JSON.parse(Buffer.from(token.split('.')[1] as string, 'base64url').toString()).iat)
  t.notOk(found[1] instanceof Error)
  t.equal((await service.request('GET', '/api/v1/auth/verify-token', { token })).status, 200)
})

t.test('no statement looks up more than the maximum of users', async (t) => {
  const { app, sql } = await testService(t)
  await sql(
    'INSERT INTO users (phone_number, is_active) SELECT \'+99655\' || n, n % 2 = 0 FROM generate_series(1, $1::int) n',
    [2 * maxBatch])
  const counted: number[] = []
  const find = activeUsers(app.db, (users) => { counted.push(users) })
  let statements = 0
  app.db.check.$client.on('acquire', () => { statements++ })
  const found = await Promise.all(Array.from({ length: 2 * maxBatch + 1 }, (_, index) =>
    new Promise<Found>((resolve) => find(index + 1, (error, lastLogin) => resolve(error ?? lastLogin)))))
  t.strictSame(found,
    [...Array.from({ length: 2 * maxBatch }, (_, index) => index % 2 === 1 ? null : undefined), undefined])
  t.equal(statements, 3)
  t.strictSame(counted.sort((a, b) => a - b), [1, 1000, 1000])
})

t.test('the very next request sees a change, also among many requests at once', async (t) => {
  const service = await testService(t, { env: { RATE_LIMIT_IP_MAX: '1000' } })
  const people = await Promise.all(Array.from({ length: 20 }, () => service.login(newPhone())))
  const statuses = async () => (await Promise.all([
    ...people, ...people, ...people, ...people, ...people
  ].map(({ token }) =>
    service.request('GET', '/api/v1/auth/verify-token', { token })))).map(({ status }) => status)
  t.ok((await statuses()).every((status) => status === 200))
  await service.sql('UPDATE users SET is_active = FALSE')
  t.ok((await statuses()).every((status) => status === 401))
})

t.test('64 requests of one turn run one statement, which has each user once', async (t) => {
  const service = await testService(t, { env: { LOG_LEVEL: 'info' } })
  const people = await Promise.all(Array.from({ length: 16 }, () => service.login(newPhone())))
  let statements = 0
  service.app.db.check.$client.on('acquire', () => { statements++ })
  const responses = await Promise.all(Array.from({ length: 64 }, (_, n) => service.app.inject({
    url: '/api/v1/auth/verify-token', headers: { authorization: `Bearer ${people[n % 16]?.token}` }
  })))
  t.strictSame(responses.map((response) => response.json().user_id),
    Array.from({ length: 64 }, (_, n) => people[n % 16]?.user.id))
  t.equal(statements, 1)
})

t.test('a request during a statement gets a later statement, which sees newer changes', async (t) => {
  const service = await testService(t)
  const { token, user } = await service.login(newPhone())
  const ask = async () => (await service.request('GET', '/api/v1/auth/verify-token', { token })).status
  const lock = await holdLock(t, service.database.url,
    `LOCK TABLE users IN ACCESS EXCLUSIVE MODE; UPDATE users SET is_active = FALSE WHERE id = ${user.id}`)
  const first = ask()
  await lock.isAwaited(1)
  const second = ask()
  await lock.isAwaited(2)
  // The statement of the first lookup fails, and only that lookup with it.
  await service.sql(`SELECT pg_terminate_backend(pid) FROM pg_stat_activity
    WHERE datname = current_database() AND wait_event_type = 'Lock' ORDER BY query_start LIMIT 1`)
  t.equal(await first, 503)
  await lock.release()
  t.equal(await second, 401)
})

t.test('every request is 503 while PostgreSQL is unavailable, and 200 once it is available again', async (t) => {
  const postgres = await startTestPostgres()
  t.teardown(() => postgres.remove())
  await migrate(postgres.url)
  const service = await testService(t, { database: { url: postgres.url, sql: async () => [] } })
  const { token } = await service.login(newPhone())
  const ask = () => service.request('GET', '/api/v1/auth/verify-token', { token })
  await postgres.stop()
  for (const { status, body } of await Promise.all([ask(), ask(), ask()])) {
    t.equal(status, 503)
    t.equal(body.code, 'unavailable')
  }
  await postgres.start()
  t.equal((await ask()).status, 200)
})
