import t, { type Test } from 'tap'
import { sql } from 'drizzle-orm'
import { Problem } from '../../src/http/problems.js'
import type { Transaction } from '../../src/db/database.js'
import { isDatabaseUnavailable, sqlState } from '../../src/db/errors.js'
import { migrate } from '../../src/db/migrate.js'
import { samples } from '../helpers/samples.js'
import { startTestPostgres } from '../helpers/servers.js'
import { newPhone, testService, type Json } from '../helpers/service.js'

/** The error with which `promise` rejects. */
const errorOf = (promise: Promise<unknown>) => promise.then(() => undefined, (error: unknown) => error)

const insert = (tx: Transaction, phone: string) => tx.execute(sql`INSERT INTO users (phone_number) VALUES (${phone})`)
const backend = async (tx: Transaction) =>
  (await tx.execute<{ pid: number }>(sql`SELECT pg_backend_pid() AS pid`)).rows[0]?.pid as number

async function testDb (t: Test) {
  const { app, sql } = await testService(t, { env: { DATABASE_POOL_MAX: '1' } })
  return {
    db: app.db,
    has: async (phone: string) => (await sql('SELECT FROM users WHERE phone_number = $1', [phone])).length === 1
  }
}

t.test('atomically returns the result of the work and commits what it wrote', async (t) => {
  const { db, has } = await testDb(t)
  const phone = newPhone()
  t.equal(await db.atomically(async (tx) => { await insert(tx, phone); return 'result' }), 'result')
  t.equal(await has(phone), true)
  t.strictSame([db.pool.totalCount, db.pool.idleCount], [1, 1])
})

t.test('atomically rolls back after a problem and keeps the connection', async (t) => {
  const { db, has } = await testDb(t)
  const phone = newPhone()
  const pid = await db.atomically(backend)
  const thrown = new Problem('address_limit')
  t.equal(await errorOf(db.atomically(async (tx) => { await insert(tx, phone); throw thrown })), thrown)
  t.equal(await has(phone), false)
  t.equal(await db.atomically(backend), pid)
})

for (const [what, fail] of Object.entries({
  'an error': async () => { throw new Error('failed') },
  'a problem of 500 and above': async () => { throw new Problem('unavailable') },
  'a statement that fails': (tx: Transaction) => tx.execute(sql`SELECT 1 / 0`)
})) {
  t.test(`atomically rolls back after ${what} and closes the connection`, async (t) => {
    const { db, has } = await testDb(t)
    const phone = newPhone()
    const pid = await db.atomically(backend)
    t.type(await errorOf(db.atomically(async (tx) => { await insert(tx, phone); await fail(tx) })), Error)
    t.equal(await has(phone), false)
    t.not(await db.atomically(backend), pid)
  })
}

t.test('atomically gives up within 3 s on a connection that stops responding, and closes it', async (t) => {
  const { db } = await testDb(t)
  let pid = 0
  t.teardown(() => process.kill(pid, 'SIGCONT'))
  const begun = Date.now()
  const error = await errorOf(db.atomically(async (tx) => {
    pid = await backend(tx)
    process.kill(pid, 'SIGSTOP')
    await tx.execute(sql`SELECT 1`)
  }))
  t.equal(isDatabaseUnavailable(error), true)
  t.ok(Date.now() - begun < 3000)
  t.not(await db.atomically(backend), pid)
})

t.test('the response is 503 within 3 s when PostgreSQL stops responding, and 200 when it continues', async (t) => {
  const postgres = await startTestPostgres()
  t.teardown(() => postgres.remove())
  await migrate(postgres.url)
  const service = await testService(t, {
    database: { url: postgres.url, sql: async () => [] },
    // In addition to the wait for a response, a request may have to open a connection.
    env: { DATABASE_CONNECT_TIMEOUT_MS: '1000' }
  })
  const { token } = await service.login(newPhone())
  const { pid } = postgres
  const backends = (await service.app.db.execute<{ pid: number }>(sql`SELECT pid FROM pg_stat_activity`)).rows
  const all = (signal: NodeJS.Signals) => {
    for (const one of [pid, ...backends.map((row) => row.pid)]) process.kill(one, signal)
  }

  all('SIGSTOP')
  const begun = Date.now()
  const responses = await Promise.all(['GET', 'PATCH', 'DELETE'].map((method) =>
    service.request(method, '/api/v1/users/me', { token, ...(method === 'PATCH' && { body: {} }) })))
  for (const { status, body } of responses) t.strictSame([status, body.code], [503, 'unavailable'])
  t.ok(Date.now() - begun < 3000)
  all('SIGCONT')
  t.equal((await service.request('GET', '/api/v1/users/me', { token })).status, 200)
})

t.test('an outage of PostgreSQL is logged once and ends no process, however many connections die', async (t) => {
  const postgres = await startTestPostgres()
  t.teardown(() => postgres.remove())
  await migrate(postgres.url)
  const { app, log, request } = await testService(t, { database: { url: postgres.url, sql: async () => [] } })
  await Promise.all(Array.from({ length: 5 }, () => app.db.execute(sql`SELECT pg_sleep(0.05)`)))
  t.equal(app.db.pool.totalCount, 5)
  await postgres.stop()
  while (app.db.pool.totalCount > 0) await new Promise(setImmediate)

  t.equal(isDatabaseUnavailable(await errorOf(app.db.atomically(backend))), true, 'no connection to begin with')
  t.equal(isDatabaseUnavailable(await errorOf(app.db.execute(sql`SELECT 1`))), true, 'no connection to ask on')
  const events = () => log.map((line) => JSON.parse(line).event).filter((event) => /^dependency/.test(event))
  t.strictSame(events(), ['dependency_down'])
  await postgres.start()
  t.equal((await request('GET', '/health/ready')).status, 200)
  t.strictSame(events(), ['dependency_down', 'dependency_up'])
})

t.test('an error of PostgreSQL is a bug if a statement is at fault, and an outage otherwise', async (t) => {
  const { app: { db } } = await testService(t)
  const bugs = ['22012', '22001', '23505', '23502', '42703', '42601']
  const outages = ['42P01', '42501', '57P01', '57P03', '53300', '08006', '40001', '40P01', 'XX000', '25006']
  for (const state of [...bugs, ...outages]) {
    const error = await errorOf(db.execute(sql.raw(`DO $$ BEGIN RAISE SQLSTATE '${state}'; END $$`)))
    t.equal(sqlState(error), state)
    t.equal(isDatabaseUnavailable(error), outages.includes(state), state)
  }
  for (const code of ['ECONNREFUSED', 'ENOTFOUND', 'EAI_AGAIN']) {
    t.equal(isDatabaseUnavailable(Object.assign(new Error('connect'), { code })), true, code)
  }
  t.equal(isDatabaseUnavailable(Object.assign(new Error('bug'), { code: 'ERR_INVALID_ARG_TYPE' })), false)
  t.equal(isDatabaseUnavailable(new TypeError('x is not a function')), false)
  t.equal(isDatabaseUnavailable('Connection terminated'), false)
  t.equal(sqlState(new Error('42P01')), undefined)
})

for (const [isPrepared, count] of [['true', 'some'], ['false', 'no']] as const) {
  t.test(`connections have ${count} prepared statements with DATABASE_PREPARED_STATEMENTS=${isPrepared}`, async (t) => {
    const service = await testService(t, { env: { DATABASE_PREPARED_STATEMENTS: isPrepared, DATABASE_POOL_MAX: '1' } })
    const { token } = await service.login(newPhone())
    t.equal((await service.request('GET', '/api/v1/users/me', { token })).status, 200)
    const { rows } = await service.app.db.execute(sql`SELECT name FROM pg_prepared_statements`)
    t.equal(rows.length > 0, isPrepared === 'true')
  })
}

for (const max of [1, 2, 3, 4, 10]) {
  t.test(`logins, checks, reads and writes at once all succeed with DATABASE_POOL_MAX=${max}`, async (t) => {
    const service = await testService(t, { env: { DATABASE_POOL_MAX: String(max), METRICS_PORT: '9464' } })
    // Few users: a request that waits 1 s for a connection is 503, and a busy machine is slow.
    const people = []
    for (let login = 0; login < (max < 4 ? 2 : 5); login++) people.push(await service.login(newPhone()))

    const responses = await Promise.all(people.flatMap(({ token }) => [
      service.request('GET', '/auth/verify-token', { token }),
      service.request('GET', '/api/v1/users/me', { token }),
      service.request('PATCH', '/api/v1/users/me', { token, body: { full_name: 'A B' } }),
      service.request('POST', '/api/v1/profile/addresses', { token, body: { title: 'Home', full_address: 'Chuy 1' } }),
      service.request('GET', '/health/ready')
    ]))
    t.strictSame([...new Set(responses.map(({ status }) => status))].sort(), [200, 201])
    const [{ count }] = await service.sql(`SELECT count(*)::int FROM pg_stat_activity
      WHERE application_name = 'phone-auth' AND datname = current_database()`) as [Json]
    t.ok(count <= max, `${count} connections`)
    const metrics = samples(await service.app.metrics.metrics())
    t.equal(metrics.get('phone_auth_database_connections_max'), max)
    t.equal(metrics.get('phone_auth_database_connections'), count)
    t.equal(metrics.get('phone_auth_database_connections_idle'), count)
  })
}

for (const [max, transactions] of [[2, 1], [3, 1], [5, 1], [10, 4]] as const) {
  t.test(`transactions hold at most ${transactions} of ${max} connections, and checks do not wait`, async (t) => {
    const service = await testService(t, { env: { DATABASE_POOL_MAX: String(max), METRICS_PORT: '9464' } })
    const { db } = service.app
    const { token } = await service.login(newPhone())
    let finish!: () => void
    const isFinished = new Promise<void>((resolve) => { finish = resolve })
    interface Held { ended: Promise<unknown> }
    const held = await Promise.all(Array.from({ length: transactions }, () => new Promise<Held>((resolve) => {
      const ended = db.atomically(async (tx) => {
        await tx.execute(sql`SELECT 1`)
        resolve({ ended })
        await isFinished
      })
    })))

    const further = errorOf(db.atomically(async () => {}))
    t.equal(samples(await service.app.metrics.metrics()).get('phone_auth_database_waiting'), 1)
    t.equal((await service.request('GET', '/auth/verify-token', { token })).status, 200)
    t.equal((await service.request('GET', '/health/ready')).status, 200)
    if (max > 2) {
      t.equal((await service.request('GET', '/api/v1/users/me', { token })).status, 200)
      t.ok(await service.login(newPhone()))
    }
    t.equal(isDatabaseUnavailable(await further), true, 'the next transaction gives up')
    finish()
    await Promise.all(held.map(({ ended }) => ended))
    t.equal(await db.atomically(async () => 'done'), 'done')
  })
}
