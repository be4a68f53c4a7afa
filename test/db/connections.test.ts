import { once } from 'node:events'
import { appendFileSync, chmodSync, chownSync, copyFileSync, statSync } from 'node:fs'
import { connect, createServer, type AddressInfo, type Socket } from 'node:net'
import { join } from 'node:path'
import { sql } from 'drizzle-orm'
import pg from 'pg'
import t, { type Test } from 'tap'
import { migrate } from '../../src/db/migrate.js'
import { privateCa } from '../helpers/certificates.js'
import { samples } from '../helpers/samples.js'
import { startProcess, until } from '../helpers/server-process.js'
import { startTestPostgres, temporaryFolder } from '../helpers/servers.js'
import { newPhone, testDatabase, testService, type Service } from '../helpers/service.js'

const databaseOf = (url: string) => ({ url, sql: async () => [] })
const readiness = async ({ request }: Service) => (await request('GET', '/health/ready')).status
const databaseUp = async ({ app }: Service) =>
  samples(await app.metrics.metrics()).get('phone_auth_dependency_up{dependency="postgresql"}')

/** Runs statements as the superuser. */
async function administer (url: string, ...statements: string[]) {
  const client = new pg.Client({ connectionString: url })
  await client.connect()
  try {
    for (const statement of statements.slice(0, -1)) await client.query(statement)
    return (await client.query<Record<string, string>>(statements.at(-1) as string)).rows
  } finally {
    await client.end()
  }
}

/** Starts a PostgreSQL with TLS and a certificate of a private CA. */
async function postgresWithTls (t: Test) {
  const [authority, postgres] = [await privateCa(t), await startTestPostgres()]
  t.teardown(() => postgres.remove())
  const folder = postgres.dataDir
  const { uid, gid } = statSync(folder)
  for (const [from, to] of [[authority.certificate, 'server.crt'], [authority.key, 'server.key']] as const) {
    copyFileSync(from, join(folder, to))
    chownSync(join(folder, to), uid, gid)
    chmodSync(join(folder, to), 0o600)
  }
  await administer(postgres.url, 'ALTER SYSTEM SET ssl = on', 'SELECT pg_reload_conf()')
  // The reload takes effect for new connections only.
  await until(async () => (await administer(postgres.url, 'SHOW ssl'))[0]?.ssl === 'on')
  await migrate(postgres.url)
  return { ...authority, url: postgres.url }
}

/** Starts a TCP proxy that adds `roundTripMs` to each round trip. Returns `url` through the proxy. */
async function distance (t: Test, url: string, roundTripMs: number) {
  const { port } = new URL(url)
  const sockets = new Set<Socket>()
  const delay = (from: Socket, to: Socket) => {
    sockets.add(from)
    from.on('error', () => {}).on('close', () => setTimeout(() => to.destroy(), roundTripMs))
    from.on('data', (chunk) => { setTimeout(() => to.write(chunk), roundTripMs / 2) })
  }
  const server = createServer((socket) => {
    const target = connect(Number(port), '127.0.0.1')
    // The TCP handshake is a round trip, too: nothing arrives before it ends.
    socket.pause()
    setTimeout(() => socket.resume(), roundTripMs)
    delay(socket, target)
    delay(target, socket)
  }).listen(0, '127.0.0.1')
  t.teardown(() => {
    server.close()
    for (const socket of sockets) socket.destroy()
  })
  await once(server, 'listening')
  return url.replace(`:${port}/`, `:${(server.address() as AddressInfo).port}/`)
}

t.test('DATABASE_CA_FILE makes the service trust a PostgreSQL with a certificate of a private CA', async (t) => {
  const { ca, url } = await postgresWithTls(t)
  const other = await privateCa(t)

  for (const DATABASE_URL of [url, url.replace('127.0.0.1', 'localhost'), `${url}?sslmode=require`]) {
    const service = await testService(t, { database: databaseOf(DATABASE_URL), env: { DATABASE_CA_FILE: ca } })
    t.equal(await readiness(service), 200)
    const { rows } = await service.app.db.execute(sql`SELECT ssl FROM pg_stat_ssl WHERE pid = pg_backend_pid()`)
    t.strictSame(rows, [{ ssl: true }])
    await service.login(newPhone())
  }
  const distrustful = await testService(t, { database: databaseOf(url), env: { DATABASE_CA_FILE: other.ca } })
  t.equal(await readiness(distrustful), 503)
  const env = { DATABASE_URL: url, DATABASE_CA_FILE: ca }
  t.equal((await startProcess(t, 'migrate', { env }).closed).code, 0)
  t.equal((await startProcess(t, 'migrate', { env: { ...env, DATABASE_CA_FILE: other.ca } }).closed).code, 1)
})

t.test('a PostgreSQL without TLS is not used if DATABASE_CA_FILE is set', async (t) => {
  const { ca } = await privateCa(t)
  const { url } = await testDatabase(t)
  t.equal(await readiness(await testService(t, { database: databaseOf(url), env: { DATABASE_CA_FILE: ca } })), 503)
})

t.test('the service works with TLS to a database at a distance of 150 ms', async (t) => {
  const { ca, url } = await postgresWithTls(t)
  const far = await distance(t, url, 150)
  const service = await testService(t, { database: databaseOf(far), env: { DATABASE_CA_FILE: ca } })
  t.equal(await readiness(service), 200)
  await service.login(newPhone())
})

t.test('DATABASE_CONNECT_TIMEOUT_MS bounds the opening of a connection', async (t) => {
  const { url } = await testDatabase(t)
  const far = await distance(t, url, 150)
  t.equal(
    await readiness(await testService(t, { database: databaseOf(far), env: { DATABASE_CONNECT_TIMEOUT_MS: '100' } })),
    503
  )
  t.equal(
    await readiness(await testService(t, { database: databaseOf(far), env: { DATABASE_CONNECT_TIMEOUT_MS: '10000' } })),
    200
  )
})

t.test('a request waits 1 s for a free connection, whatever DATABASE_CONNECT_TIMEOUT_MS is', async (t) => {
  const service = await testService(t, { env: { DATABASE_POOL_MAX: '1', DATABASE_CONNECT_TIMEOUT_MS: '600000' } })
  const client = await service.app.db.pool.connect()

  await t.rejects(service.app.db.pool.connect(), { message: /timeout exceeded/ })
  client.release()
  t.equal(await readiness(service), 200)
})

t.test('the service reaches PostgreSQL on a Unix socket, with no host in the URL', async (t) => {
  const folder = await temporaryFolder()
  t.teardown(folder.remove)
  chmodSync(folder.path, 0o777)
  const postgres = await startTestPostgres({ flags: ['-c', `unix_socket_directories=${folder.path}`] })
  t.teardown(() => postgres.remove())
  appendFileSync(join(postgres.dataDir, 'pg_hba.conf'), 'local all all scram-sha-256\n')
  await administer(postgres.url, 'SELECT pg_reload_conf()')
  const { username, password, port } = new URL(postgres.url)
  const url = `postgres://${username}:${password}@/postgres?host=${folder.path}&port=${port}`
  await until(() => administer(url, 'SELECT').then(() => true, () => false))
  t.equal((await startProcess(t, 'migrate', { env: { DATABASE_URL: url } }).closed).code, 0)

  const service = await testService(t, { database: databaseOf(url) })
  t.equal(await readiness(service), 200)
  const { rows } = await service.app.db.execute(sql`SELECT inet_client_addr() AS ip`)
  t.strictSame(rows, [{ ip: null }])
  await service.login(newPhone())
})

t.test('dependency_up is 1 again after the first successful statement, without a probe', async (t) => {
  const postgres = await startTestPostgres()
  t.teardown(() => postgres.remove())
  await migrate(postgres.url)
  const service = await testService(t, { database: databaseOf(postgres.url) })
  const { token } = await service.login(newPhone())
  await postgres.stop()
  t.equal(await readiness(service), 503)
  t.equal(await databaseUp(service), 0)
  await postgres.start()

  t.equal((await service.request('GET', '/auth/verify-token', { token })).status, 200)
  t.equal(await databaseUp(service), 1)
  t.equal(service.log.filter((line) => JSON.parse(line).event === 'dependency_up').length, 1)
})

t.test('a successful statement does not end the outage of a missing table', async (t) => {
  const service = await testService(t, { database: await testDatabase(t, { isEmpty: true }) })
  t.equal(await readiness(service), 503)
  await service.app.db.execute(sql`SELECT 1`)
  t.equal(await databaseUp(service), 0)
})
