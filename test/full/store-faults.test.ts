import { Redis } from 'ioredis'
import pg from 'pg'
import t, { type Test } from 'tap'
import { SmsRefused } from '../../src/messages/index.js'
import { migrate } from '../../src/db/migrate.js'
import { Problem } from '../../src/http/problems.js'
import { isDatabaseUnavailable } from '../../src/db/errors.js'
import { problemOf, wrongCode } from '../helpers/responses.js'
import { holdLock } from '../helpers/locks.js'
import { startProxy } from '../helpers/proxy.js'
import { smsWebhook, startService, until } from '../helpers/server-process.js'
import { startRedis, startTestPostgres } from '../helpers/servers.js'
import {
  client, newPhone, productionEnv, testDatabase, testRedis, testService, type TestResponse, type Json, type Service
} from '../helpers/service.js'

/** A PostgreSQL that only this test uses, so the test may stop it. */
async function ownPostgres (t: Test) {
  const server = await startTestPostgres()
  t.teardown(server.remove)
  await migrate(server.url)
  const sql = async (text: string, values: unknown[] = []): Promise<Json[]> => {
    const connection = new pg.Client(server.url)
    await connection.connect()
    try { return (await connection.query(text, values)).rows as Json[] } finally { await connection.end() }
  }
  return { server, database: { url: server.url, sql } }
}

/** A Redis that only this test uses, so the test may stop it and start another one on the same port. */
async function ownRedis (t: Test) {
  let server = await startRedis()
  const { url, port } = server
  const redis = new Redis(url, { retryStrategy: () => 20, maxRetriesPerRequest: null })
  redis.on('error', () => {})
  t.teardown(async () => {
    redis.disconnect()
    await server.stop()
  })
  return {
    store: { url, redis },
    get pid () { return server.pid },
    stop: () => server.stop(),
    async start () { server = await startRedis({ port }) }
  }
}

/** Tries again like a client, until the response is not 503. */
async function tryAgain (call: () => Promise<TestResponse>): Promise<TestResponse> {
  let response = await call()
  await until(async () => response.status !== 503 || (response = await call()).status !== 503)
  return response
}

/** Expects 503 with Retry-After in time, without credentials in the body. */
async function isUnavailable (t: Test, call: () => Promise<TestResponse>, title: string) {
  const start = Date.now()
  const response = await call()
  t.strictSame(...problemOf(response, 503, 'Service Unavailable', 'unavailable', { retry_after: 2 }), title)
  t.equal(response.headers.get('retry-after'), '2')
  t.equal(response.headers.get('www-authenticate'), null)
  t.ok(Date.now() - start < 5000, `${title} responds in time`)
}

t.test('PostgreSQL stops between send and verify: 503, then the same code works with its attempts', async (t) => {
  const { server, database } = await ownPostgres(t)
  let later = 0
  const service = await testService(t,
    { database, env: { CODE_SENDS_PER_HOUR: '2' }, overrides: { clock: () => Date.now() + later } })
  const { token } = await service.login(newPhone())
  const phone = newPhone()
  await service.send(phone)
  later = 60_000
  await service.send(phone)
  const code = service.codeOf(phone)
  t.equal((await service.verify(phone, wrongCode(code))).body.attempts_remaining, 4)

  await server.stop()
  for (let tries = 0; tries < 3; tries++) await isUnavailable(t, () => service.verify(phone, code), `verify ${tries}`)
  await isUnavailable(t, () => service.send(newPhone()), 'send')
  for (const [method, path] of [
    ['GET', '/api/v1/users/me'], ['GET', '/api/v1/profile/addresses'], ['GET', '/api/v1/auth/verify-token'],
    ['POST', '/api/v1/auth/logout']
  ] as const) {
    await isUnavailable(t, () => service.request(method, path, { token }), `${method} ${path}`)
  }
  t.equal((await service.verify(phone, wrongCode(code))).body.attempts_remaining, 3,
    'a wrong guess counts without PostgreSQL')

  await server.start()
  t.equal((await service.verify(phone, wrongCode(code))).body.attempts_remaining, 2)
  later = 120_000
  t.equal((await tryAgain(() => service.send(phone))).body.code, 'too_many_sends', 'the earlier sends count')
  const { status, body } = await tryAgain(() => service.verify(phone, code))
  t.strictSame([status, body.is_new_user], [200, true])
  t.equal((await service.request('GET', '/api/v1/users/me', { token: body.access_token })).status, 200)
  t.equal((await service.request('GET', '/api/v1/users/me', { token })).status, 200, 'the person is still signed in')
})

t.test('PostgreSQL hangs during a login: 503 in time, and later the code works', async (t) => {
  const service = await testService(t)
  const phone = newPhone()
  await service.send(phone)
  const code = service.codeOf(phone)
  const other = new pg.Client(service.database.url)
  await other.connect()
  t.teardown(() => other.end())
  await other.query('BEGIN')
  await other.query('LOCK TABLE users IN ACCESS EXCLUSIVE MODE')
  await isUnavailable(t, () => service.verify(phone, code), 'verify')
  await other.query('ROLLBACK')
  t.equal((await service.send(phone)).body.code, 'resend_too_soon', 'the code is restored with its cooldown')
  const { status, body } = await service.verify(phone, code)
  t.equal(status, 200)
  t.equal((await service.request('GET', '/api/v1/users/me', { token: body.access_token })).status, 200)
})

t.test('PostgreSQL accepts connections but does not respond: 503 in time', async (t) => {
  const { server, database } = await ownPostgres(t)
  const service = await testService(t, { database })
  const phone = newPhone()
  await service.send(phone)
  const code = service.codeOf(phone)
  process.kill(server.pid, 'SIGSTOP')
  t.teardown(() => process.kill(server.pid, 'SIGCONT'))
  // Open connections still work. Without them, every query needs a new one, which gets no response.
  await service.app.db.pool.query(`SELECT pg_terminate_backend(pid) FROM pg_stat_activity
    WHERE pid <> pg_backend_pid() AND datname = current_database()`)
  await service.app.db.pool.query('SELECT pg_terminate_backend(pg_backend_pid())').catch(() => undefined)
  await isUnavailable(t, () => service.verify(phone, code), 'verify')
  await t.rejects(service.app.db.atomically(async () => {}), { message: /timeout/ })
  process.kill(server.pid, 'SIGCONT')
  t.equal((await tryAgain(() => service.verify(phone, code))).status, 200)
})

for (const [fault, status, code, break_, mend] of [
  [
    'a missing table', 503, 'unavailable', 'ALTER TABLE users RENAME TO elsewhere',
    'ALTER TABLE elsewhere RENAME TO users'
  ],
  [
    'a read-only database', 503, 'unavailable', 'ALTER DATABASE name SET default_transaction_read_only = on',
    'ALTER DATABASE name RESET default_transaction_read_only'
  ],
  [
    'an unknown constraint', 500, 'internal_error',
    "ALTER TABLE users ADD CONSTRAINT strange CHECK (phone_number = '')", 'ALTER TABLE users DROP CONSTRAINT strange'
  ]
] as const) {
  t.test(`a login that fails because of ${fault} is ${status} ${code}; the same code works afterwards`, async (t) => {
    const service = await testService(t)
    const name = new URL(service.database.url).pathname.slice(1)
    const phone = newPhone()
    await service.send(phone)
    const sms = service.codeOf(phone)
    // Only new sessions have the new setting. A query on a session that is about to end would be 503 for any fault.
    const endConnections = async () => {
      await service.sql(`SELECT pg_terminate_backend(pid) FROM pg_stat_activity
        WHERE datname = current_database() AND application_name = 'phone-auth'`)
      await until(() => service.app.db.pools.every(({ totalCount }) => totalCount === 0))
    }
    await service.sql(break_.replace('name', name))
    await endConnections()
    const response = await service.verify(phone, sms)
    t.strictSame([response.status, response.body.code], [status, code])
    await service.sql('SET default_transaction_read_only = off')
    await service.sql(mend.replace('name', name))
    await endConnections()
    t.equal((await tryAgain(() => service.verify(phone, sms))).status, 200)
  })
}

const fields = 'SFATAL\0C57P01\0Mterminating connection due to administrator command\0\0'
/** The ErrorResponse that PostgreSQL sends when it ends a connection. */
const terminated = Buffer.concat([Buffer.from('E'), Buffer.from([0, 0, 0, fields.length + 4]), Buffer.from(fields)])

/** Waits for a connection of the service in this state, and ends it like a restart of PostgreSQL. */
async function endConnection ({ sql }: Pick<Service, 'sql'>, state: string) {
  let ended: Json[] = []
  await until(async () => {
    ended = await sql(`SELECT pg_terminate_backend(pid) FROM pg_stat_activity
      WHERE datname = current_database() AND application_name = 'phone-auth' AND ${state}`)
    return ended.length > 0
  })
}

t.test('a logout whose connection dies is 503 and changes nothing; the process lives', async (t) => {
  const service = await testService(t)
  const { token, user } = await service.login(newPhone())
  const other = new pg.Client(service.database.url)
  await other.connect()
  t.teardown(() => other.end())
  await other.query('BEGIN')
  await other.query('SELECT FROM users WHERE id = $1 FOR UPDATE', [user.id])
  const response = service.request('POST', '/api/v1/auth/logout', { token })
  await endConnection(service, "wait_event_type = 'Lock'")
  await isUnavailable(t, () => response, 'logout')
  await other.query('ROLLBACK')
  t.equal((await service.request('GET', '/api/v1/users/me', { token })).status, 200)
  t.equal((await service.request('POST', '/api/v1/auth/logout', { token })).status, 200)
})

t.test('the process survives when PostgreSQL ends a connection just as a transaction takes it', async (t) => {
  const database = await testDatabase(t)
  const { port } = new URL(database.url)
  const proxy = await startProxy(t, Number(port))
  const url = database.url.replace(port, String(proxy.port))
  const service = await testService(t, { database: { ...database, url }, env: { DATABASE_POOL_MAX: '1' } })
  const { token } = await service.login(newPhone())
  const lock = await holdLock(t, database.url, 'LOCK TABLE users')
  const check = service.request('GET', '/auth/verify-token', { token })
  await lock.isAwaited()
  // The transaction waits for the only connection. It takes the connection while pg still reads the same packet.
  const transaction = service.app.db.atomically(async () => {})
  proxy.appendToResponses(terminated)

  await lock.release()

  await t.rejects(transaction)
  t.equal((await check).status, 200)
  proxy.appendToResponses(undefined)
  t.equal((await tryAgain(() => service.request('GET', '/auth/verify-token', { token }))).status, 200)
})

t.test('a deletion whose connection dies while it waits for Redis is 503 and changes no row', async (t) => {
  const { store } = await ownRedis(t)
  const service = await testService(t, { redis: store, env: { DATABASE_POOL_MAX: '2' } })
  const { token, user } = await service.login(newPhone())
  await store.redis.call('CLIENT', 'PAUSE', '10000', 'WRITE')
  const response = service.request('DELETE', '/api/v1/users/me', { token })
  await endConnection(service, "state = 'idle in transaction'")
  await store.redis.call('CLIENT', 'UNPAUSE')
  await isUnavailable(t, () => response, 'deletion')
  t.strictSame(await service.sql('SELECT id FROM users'), [{ id: user.id }])
  t.equal((await service.request('DELETE', '/api/v1/users/me', { token })).status, 204)
})

t.test('transactions', async (t) => {
  const service = await testService(t, { env: { DATABASE_POOL_MAX: '1' } })
  const { db } = service.app
  const phone = newPhone()
  const insert = (tx: Json) => tx.$client.query('INSERT INTO users (phone_number) VALUES ($1)', [phone])
  const rows = () => service.sql('SELECT phone_number FROM users')
  /** Ends the connection, and waits until the service knows that the connection is dead. */
  const connectionDies = async (tx: Json) => {
    const isKnown = new Promise((resolve) => { tx.$client.once('end', resolve) })
    await endConnection(service, "state = 'idle in transaction'")
    await isKnown
  }

  t.test('a transaction is rolled back by a problem, and its connection is used again', async (t) => {
    const connection = async () => (await db.pool.query('SELECT pg_backend_pid() AS pid')).rows[0].pid as number
    const before = await connection()
    await t.rejects(db.atomically(async (tx) => {
      await insert(tx)
      throw new Problem('invalid_token')
    }), new Problem('invalid_token'))
    t.strictSame(await rows(), [])
    t.equal(await connection(), before)
  })

  t.test('a transaction whose connection died before the rollback frees its place in the pool', async (t) => {
    await t.rejects(db.atomically(async (tx) => {
      await insert(tx)
      await connectionDies(tx)
      throw new Problem('invalid_token')
    }), new Problem('invalid_token'))
    t.strictSame(await rows(), [])
    t.equal(await db.atomically(async () => 'done'), 'done')
  })

  t.test('a transaction whose connection died before the COMMIT is an outage', async (t) => {
    const error = await db.atomically(async (tx) => {
      await insert(tx)
      await connectionDies(tx)
    }).catch((error: unknown) => error)
    t.ok(isDatabaseUnavailable(error))
    t.strictSame(await rows(), [])
  })

  t.test('a transaction that gets no connection in time is an outage', async (t) => {
    const held = await db.pool.connect()
    const error = await db.atomically(async () => {}).catch((error: unknown) => error)
    held.release()
    t.ok(isDatabaseUnavailable(error))
    t.equal(await db.atomically(async () => 'done'), 'done')
  })

  t.test('a transaction is rolled back by any other error', async (t) => {
    const bug = new Error('a bug')
    await t.rejects(db.atomically(async (tx) => {
      await insert(tx)
      throw bug
    }), bug)
    t.notOk(isDatabaseUnavailable(bug))
    t.strictSame(await rows(), [])
    t.equal(await db.atomically(async () => 'done'), 'done')
  })

  t.test('a transaction is committed when it returns', async (t) => {
    await db.atomically(insert)
    t.strictSame(await rows(), [{ phone_number: phone }])
  })
})

t.test('Redis stops: codes, logout and deletion are 503 and change nothing; authenticated routes work', async (t) => {
  const redis = await ownRedis(t)
  const service = await testService(t, { redis: redis.store })
  const { token } = await service.login(newPhone())
  const [phone, known] = [newPhone(), newPhone()]
  await service.sql('INSERT INTO users (phone_number, is_active) VALUES ($1, FALSE)', [known])
  for (const number of [phone, known]) await service.send(number)
  const before = await service.sql('SELECT * FROM users ORDER BY id')
  const sent = service.sms.length

  await redis.stop()
  for (const number of [phone, known]) {
    await isUnavailable(t, () => service.verify(number, service.codeOf(number)), 'verify')
    await isUnavailable(t, () => service.send(number), 'send')
  }
  t.equal(service.sms.length, sent)
  t.strictSame(await service.sql('SELECT * FROM users ORDER BY id'), before)
  await isUnavailable(t, () => service.request('POST', '/api/v1/auth/logout', { token }), 'logout')
  await isUnavailable(t, () => service.request('DELETE', '/api/v1/users/me', { token }), 'deletion')
  t.strictSame(await service.sql('SELECT * FROM users ORDER BY id'), before)
  for (const path of ['/api/v1/users/me', '/api/v1/auth/verify-token']) {
    t.equal((await service.request('GET', path, { token })).status, 200)
  }

  // The new Redis has neither the data nor the scripts.
  await redis.start()
  t.equal((await tryAgain(() => service.verify(phone, service.codeOf(phone)))).body.code, 'invalid_code')
  for (const number of [phone, known]) t.equal((await service.login(number)).body.is_new_user, number === phone)
  t.equal((await service.request('POST', '/api/v1/auth/logout', { token })).status, 200)
})

t.test('Redis hangs: 503 in time, and the service works again when Redis does', async (t) => {
  const redis = await ownRedis(t)
  const service = await testService(t, { redis: redis.store })
  process.kill(redis.pid, 'SIGSTOP')
  t.teardown(() => process.kill(redis.pid, 'SIGCONT'))
  const phone = newPhone()
  for (let tries = 0; tries < 3; tries++) await isUnavailable(t, () => service.send(newPhone()), 'send')
  await isUnavailable(t, () => service.verify(phone, '123456'), 'verify')
  t.strictSame(service.sms, [])
  process.kill(redis.pid, 'SIGCONT')
  await tryAgain(() => service.verify(phone, '123456'))
  t.equal((await service.login(phone)).body.is_new_user, true)
})

t.test('after the host of Redis vanishes without a packet, the service connects to its replacement', async (t) => {
  const redis = await ownRedis(t)
  const way = await startProxy(t, Number(new URL(redis.store.url).port))
  const service = await testService(t, { redis: { url: `redis://127.0.0.1:${way.port}`, redis: redis.store.redis } })
  await service.login(newPhone())
  way.silence()
  const phone = newPhone()
  await isUnavailable(t, () => service.verify(phone, '123456'), 'verify')
  t.equal((await tryAgain(() => service.verify(phone, '123456'))).body.code, 'invalid_code')
  await service.login(phone)
})

t.test('after the host of PostgreSQL vanishes without a packet, the service connects to its replacement', async (t) => {
  const database = await testDatabase(t)
  const way = await startProxy(t, Number(new URL(database.url).port))
  const service = await testService(t,
    { database: { ...database, url: database.url.replace(/:\d+\//, `:${way.port}/`) } })
  const { token } = await service.login(newPhone())
  way.silence()
  await isUnavailable(t, () => service.request('GET', '/api/v1/users/me', { token }), 'an authenticated route')
  t.equal((await tryAgain(() => service.request('GET', '/api/v1/users/me', { token }))).status, 200)
  await service.login(newPhone())
})

t.test('a process ends in time on SIGTERM while PostgreSQL and Redis hang', async (t) => {
  const { server, database } = await ownPostgres(t)
  const redis = await ownRedis(t)
  const { url: smsUrl, sms } = await smsWebhook(t)
  const service = await startService(t, { ...productionEnv(database.url, redis.store.url), SMS_WEBHOOK_URL: smsUrl })
  await client(service.url, sms).login(newPhone())
  const backends = (await database.sql("SELECT pid FROM pg_stat_activity WHERE application_name = 'phone-auth'")).map(
    ({ pid }) => pid as number)
  const hanging = [...backends, server.pid, redis.pid]
  for (const pid of hanging) process.kill(pid, 'SIGSTOP')
  t.teardown(() => { for (const pid of hanging) process.kill(pid, 'SIGCONT') })
  const start = Date.now()
  t.equal(await service.stop(), 0)
  t.ok(Date.now() - start < 5000, `${Date.now() - start} ms`)
})

t.test('a refused send that cannot be cancelled, because Redis became unavailable, is 503', async (t) => {
  const redis = await ownRedis(t)
  const service = await testService(t, {
    redis: redis.store,
    overrides: {
      sms: async () => {
        await redis.stop()
        throw new SmsRefused()
      }
    }
  })
  await isUnavailable(t, () => service.send(newPhone()), 'send')
})

t.test('the service starts without Redis, and sends once Redis is available', async (t) => {
  const redis = await ownRedis(t)
  await redis.stop()
  const service = await testService(t, { redis: redis.store })
  const phone = newPhone()
  await isUnavailable(t, () => service.send(phone), 'send')
  await redis.start()
  await tryAgain(() => service.send(phone))
  t.equal((await service.verify(phone, service.codeOf(phone))).status, 200)
})

t.test('a code survives the process that sent it', async (t) => {
  const database = await testDatabase(t)
  const { url } = await testRedis(t)
  const { url: smsUrl, sms } = await smsWebhook(t)
  const env = { ...productionEnv(database.url, url), SMS_WEBHOOK_URL: smsUrl }
  const before = await startService(t, env)
  const phone = newPhone()
  await client(before.url, sms).send(phone)
  t.equal(await before.stop(), 0)
  const after = client((await startService(t, env)).url, sms)
  t.equal((await after.verify(phone, after.codeOf(phone))).status, 200)
})
