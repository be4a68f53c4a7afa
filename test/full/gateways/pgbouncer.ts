import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { writeFile } from 'node:fs/promises'
import { connect } from 'node:net'
import { join } from 'node:path'
import t, { type Test } from 'tap'
import { examine } from '../../../src/doctor/index.js'
import { claimsOf } from '../../helpers/forge.js'
import { freePort } from '../../helpers/free-port.js'
import { until } from '../../helpers/server-process.js'
import { program, temporaryFolder } from '../../helpers/servers.js'
import { newPhone, productionEnv, testDatabase, testRedis, testService } from '../../helpers/service.js'

const clients = 32
/** Rounds of twelve requests for each client. */
const rounds = 14

/**
 * The pool has fewer connections than the service, so the statements of one client connection run on several server
 * connections.
 */
const config = (port: number, server: URL) => `
[databases]
* = host=${server.hostname} port=${server.port} user=${server.username} password=${server.password}
[pgbouncer]
listen_addr = 127.0.0.1
listen_port = ${port}
unix_socket_dir =
auth_type = any
pool_mode = transaction
default_pool_size = 4
`

/** Starts a PgBouncer in transaction mode in front of a database. Returns the URL of the database through PgBouncer. */
async function startPgBouncer (t: Test, databaseUrl: string) {
  const executable = program(['pgbouncer'], 'pgbouncer')
  const { path: folder, remove } = await temporaryFolder()
  const [url, port, file] = [new URL(databaseUrl), await freePort(), join(folder, 'pgbouncer.ini')]
  await writeFile(file, config(port, url))
  // PgBouncer does not run as root.
  const child = spawn(executable, [...process.getuid?.() === 0 ? ['-u', 'nobody'] : [], file], { stdio: 'ignore' })
  const exited = once(child, 'exit')
  t.teardown(async () => {
    child.kill('SIGTERM')
    await exited
    await remove()
  })
  url.port = String(port)
  await until(async () => {
    const socket = connect(port, '127.0.0.1')
    return once(socket, 'connect').then(() => true, () => false).finally(() => socket.destroy())
  })
  return url.href
}

t.test('5,000 mixed requests succeed without prepared statements behind PgBouncer 1.18', async (t) => {
  const database = await testDatabase(t)
  const url = await startPgBouncer(t, database.url)
  const { request, send, verify, codeOf } = await testService(t, {
    database: { ...database, url }, env: { DATABASE_PREPARED_STATEMENTS: 'false' }
  })
  const errors: string[] = []
  let count = 0
  const ask = async (what: string, response: ReturnType<typeof request>, expected = 200) => {
    const { status, body } = await response
    count++
    if (status !== expected) errors.push(`${what}: ${status} ${body.code}`)
    return body
  }
  const client = async () => {
    for (let round = 0; round < rounds; round++) {
      const phone = newPhone()
      await ask('send', send(phone))
      const { access_token: token } = await ask('verify', verify(phone, codeOf(phone)))
      await ask('account', request('GET', '/api/v1/users/me', { token }))
      await ask('change', request('PATCH', '/api/v1/users/me', { token, body: { full_name: phone } }))
      const path = '/api/v1/profile/addresses'
      for (const title of ['a', 'b']) {
        await ask(
          'new address', request('POST', path, { token, body: { title, full_address: 'x', is_default: true } }), 201
        )
      }
      const { addresses } = await ask('addresses', request('GET', path, { token }))
      await ask(
        'default address', request('PATCH', `${path}/${addresses[1].id}`, { token, body: { is_default: true } })
      )
      await ask('verify-token', request('GET', '/auth/verify-token', { token }))
      await ask('no address', request('DELETE', `${path}/${addresses[0].id}`, { token }))
      await ask('logout', request('POST', '/auth/logout', { token }))
      await ask('logged out', request('GET', '/auth/verify-token', { token }), 401)
    }
  }
  await Promise.all(Array.from({ length: clients }, client))
  t.strictSame(errors, [])
  t.ok(count >= 5000)
})

t.test('timestamptz columns hold the right times behind PgBouncer 1.18 in any time zone', async (t) => {
  const database = await testDatabase(t)
  await database.sql(`ALTER TABLE users ALTER COLUMN last_login TYPE TIMESTAMPTZ,
    ALTER COLUMN created_at TYPE TIMESTAMPTZ, ALTER COLUMN updated_at TYPE TIMESTAMPTZ`)
  await database.sql(
    "DO $$ BEGIN EXECUTE format('ALTER DATABASE %I SET timezone = %L', current_database(), 'Asia/Bishkek'); END $$"
  )
  const url = await startPgBouncer(t, database.url)
  const { login, request } = await testService(t, {
    database: { ...database, url }, env: { DATABASE_PREPARED_STATEMENTS: 'false' }
  })

  const people = await Promise.all(Array.from({ length: clients }, () => login(newPhone())))
  for (const { token } of people) {
    const { body } = await request('GET', '/api/v1/users/me', { token })
    t.equal(Date.parse(body.last_login) / 1000, claimsOf(token).iat)
  }
})

t.test('npm run doctor notices that PgBouncer 1.18 in transaction mode loses prepared statements', async (t) => {
  const { url: redisUrl } = await testRedis(t)
  const { url } = await testDatabase(t)
  const lines: string[] = []

  await examine(productionEnv(await startPgBouncer(t, url), redisUrl), (line) => lines.push(line))
  t.match(lines.find((line) => line.includes('prepared statements')), /^problem .*DATABASE_PREPARED_STATEMENTS=false/)
})
