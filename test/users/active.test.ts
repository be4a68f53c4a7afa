import t from 'tap'
import { migrate } from '../../src/db/migrate.js'
import { activeUsers, maxBatch, type ActiveUser } from '../../src/users/active.js'
import { startTestPostgres } from '../helpers/servers.js'
import { newPhone, testService } from '../helpers/service.js'

type Found = ActiveUser | undefined | Error

t.test('one statement answers all that ask in the same turn, each with its own row', async (t) => {
  const { app, sql } = await testService(t)
  await sql(`INSERT INTO users (phone_number, is_active, last_login) VALUES
    ('+996555000001', TRUE, '2024-02-29 12:00:00.9'), ('+996555000002', FALSE, NULL), ('+996555000003', NULL, '1969-12-31 23:59:59')`)
  const counted: number[] = []
  const find = activeUsers(app.db, (users, seconds) => { if (seconds > 0) counted.push(users) })
  const ask = (id: number) => new Promise<Found>((resolve) => find(id, (error, user) => resolve(error ?? user)))
  let statements = 0
  app.db.pool.on('acquire', () => { statements++ })

  t.strictSame(await Promise.all([1, 2, 3, 1, 4, 2_147_483_647].map(ask)), [
    { isActive: true, lastLogin: 1_709_208_000 },
    { isActive: false, lastLogin: null },
    { isActive: false, lastLogin: -1 },
    { isActive: true, lastLogin: 1_709_208_000 },
    undefined,
    undefined
  ])
  t.equal(statements, 1)
  t.strictSame(counted, [5])
})

t.test('no statement asks about more than so many users', async (t) => {
  const { app, sql } = await testService(t)
  await sql('INSERT INTO users (phone_number, is_active) SELECT \'+99655\' || n, n % 2 = 0 FROM generate_series(1, $1::int) n', [2 * maxBatch])
  const counted: number[] = []
  const find = activeUsers(app.db, (users) => { counted.push(users) })
  let statements = 0
  app.db.pool.on('acquire', () => { statements++ })
  const found = await Promise.all(Array.from({ length: 2 * maxBatch + 1 }, (_, index) =>
    new Promise<Found>((resolve) => find(index + 1, (error, user) => resolve(error ?? user)))))
  t.strictSame(found, [...Array.from({ length: 2 * maxBatch }, (_, index) => ({ isActive: index % 2 === 1, lastLogin: null })), undefined])
  t.equal(statements, 3)
  t.strictSame(counted.sort((a, b) => a - b), [1, 1000, 1000])
})

t.test('a change is seen by the very next request, however many ask at once', async (t) => {
  const service = await testService(t, { env: { RATE_LIMIT_IP_MAX: '1000' } })
  const people = await Promise.all(Array.from({ length: 20 }, () => service.login(newPhone())))
  const statuses = async () => (await Promise.all([...people, ...people, ...people, ...people, ...people].map(({ token }) =>
    service.request('GET', '/api/v1/auth/verify-token', { token })))).map(({ status }) => status)
  t.ok((await statuses()).every((status) => status === 200))
  await service.sql('UPDATE users SET is_active = FALSE')
  t.ok((await statuses()).every((status) => status === 401))
})

t.test('503 while PostgreSQL is away, for everybody who asks, and 200 once it is back', async (t) => {
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
