import { once } from 'node:events'
import { createServer, type AddressInfo } from 'node:net'
import t, { type Test } from 'tap'
import { migrate } from '../../src/db/migrate.js'
import { freePort } from '../helpers/free-port.js'
import { holdLock } from '../helpers/locks.js'
import { client, newPhone, productionEnv, testDatabase, testRedis } from '../helpers/service.js'
import { listening, logLines, smsWebhook, startProcess, until } from '../helpers/server-process.js'
import { startRedis, startTestPostgres } from '../helpers/servers.js'

type Environment = Record<string, string | undefined>

/** Starts a server in production with stores of its own and a provider that accepts its messages. */
async function startServer (t: Test, env: Environment = {}) {
  const database = await testDatabase(t)
  const { url: redisUrl } = await testRedis(t)
  const webhook = await smsWebhook(t)
  const server = startProcess(t, 'server', {
    env: { ...productionEnv(database.url, redisUrl), SMS_WEBHOOK_URL: webhook.url, ...env }
  })
  return { server, database, sms: webhook.sms }
}

const ready = async (url: string) => {
  const response = await fetch(`${url}/health/ready`)
  return { status: response.status, body: await response.json() as unknown }
}
const live = async (url: string) => (await fetch(`${url}/health/live`)).status

const everythingUp = { status: 200, body: { status: 'ok', checks: { database: 'up', redis: 'up' } } }
const databaseDown = { status: 503, body: { status: 'unavailable', checks: { database: 'down', redis: 'up' } } }
const redisDown = { status: 200, body: { status: 'degraded', checks: { database: 'up', redis: 'down' } } }
const outages = (log: string) => logLines(log).filter(({ event }) => event === 'dependency_down')

t.test('a wrong environment ends the process with 1 and all issues, without secret values or a stack', async (t) => {
  const server = startProcess(t, 'server', {
    env: {
      NODE_ENV: 'production',
      PORT: 'http',
      LOG_LEVEL: 'loud',
      JWT_SECRET: 'hunter2',
      DATABASE_URL: 'mysql://host/db',
      REDIS_URL: undefined,
      SMS_PROVIDER: 'pigeon',
      SMS_APP_NAME: 'x'.repeat(60)
    }
  })
  const { code, stdout, stderr } = await server.closed
  t.equal(code, 1)
  t.equal(stdout, '')
  const lines = stderr.trimEnd().split('\n')
  for (const name of ['PORT', 'LOG_LEVEL', 'JWT_SECRET', 'DATABASE_URL', 'REDIS_URL', 'SMS_PROVIDER', 'SMS_APP_NAME']) {
    t.ok(lines.some((line) => line.startsWith(`phone-auth: ${name} `)), `${name} has a line`)
  }
  t.ok(lines.every((line) => /^phone-auth: [A-Z_]+ /.test(line)), 'every line is an issue')
  t.notMatch(stderr, /hunter2/)
})

t.test('a port in use ends the process with 1 and one line', async (t) => {
  const taken = createServer().listen(0, '127.0.0.1')
  t.teardown(() => taken.close())
  await once(taken, 'listening')
  const { server } = await startServer(t, { PORT: String((taken.address() as AddressInfo).port) })
  const { code, stderr } = await server.closed
  t.equal(code, 1)
  t.match(stderr, /^phone-auth: .*PORT.*\n$/)
})

t.test('production logs a warning at start for each weak setting', async (t) => {
  const { server } = await startServer(t, { CODE_SECRET: undefined, TEST_PHONES: '+13125550100=480513' })
  const url = await listening(server)
  t.equal(await live(url), 200)
  await server.shows(/TEST_PHONES has 1 /)
  const warnings = logLines(server.stdout).filter(({ event }) => event === 'config')
  t.match(warnings, [{ level: 40, msg: /^CODE_SECRET/ }, { level: 40, msg: /^TEST_PHONES/ }])
})

for (const signal of ['SIGTERM', 'SIGINT'] as const) {
  t.test(`${signal}, even twice, finishes requests in flight, accepts no new ones and ends with 0`, async (t) => {
    const { server, database, sms } = await startServer(t)
    const url = await listening(server)
    const { login, request } = client(url, sms)
    const { token } = await login(newPhone())

    // The lock stops the request at its first query. The following queries run after the signal.
    const lock = await holdLock(t, database.url, 'LOCK TABLE users')
    const inFlight = request('PATCH', '/api/v1/users/me', { token, body: { full_name: 'In Flight' } })
    await lock.isAwaited()
    server.kill(signal)
    await until(() => fetch(`${url}/health/live`).then(() => false, () => true))
    server.kill(signal)
    await lock.release()

    const { status, body } = await inFlight
    t.equal(status, 200)
    t.equal(body.full_name, 'In Flight')
    const end = await server.closed
    t.equal(end.code, 0)
    t.equal(end.stderr, '')
    t.strictSame(logLines(end.stdout).filter(({ level }) => level as number >= 50), [])
  })
}

t.test('the service starts without PostgreSQL, logs that once, and is ready when PostgreSQL responds', async (t) => {
  const postgres = await startTestPostgres()
  t.teardown(() => postgres.remove())
  await postgres.stop()
  const { server } = await startServer(t, { DATABASE_URL: postgres.url })
  const url = await listening(server)
  t.equal(await live(url), 200)
  for (let probe = 0; probe < 5; probe++) t.strictSame(await ready(url), databaseDown)
  t.equal(outages(server.stdout).length, 1)
  t.equal(outages(server.stdout)[0]?.dependency, 'PostgreSQL')

  await postgres.start()
  await migrate(postgres.url)
  t.strictSame(await ready(url), everythingUp)
})

t.test('the service starts without Redis, degraded, logs that once, and recovers by itself', async (t) => {
  const port = await freePort()
  const { server } = await startServer(t, { REDIS_URL: `redis://127.0.0.1:${port}` })
  const url = await listening(server)
  t.equal(await live(url), 200)
  for (let probe = 0; probe < 5; probe++) t.strictSame(await ready(url), redisDown)
  t.equal(outages(server.stdout).length, 1)
  t.equal(outages(server.stdout)[0]?.dependency, 'Redis')

  const redis = await startRedis({ port })
  t.teardown(() => redis.stop())
  await server.shows(/"dependency_up"/)
  t.strictSame(await ready(url), everythingUp)
  t.equal(outages(server.stdout).length, 1)
})

t.test('the service starts and ends with stores that accept connections but never respond', async (t) => {
  const silent = createServer((socket) => { socket.on('error', () => {}) }).listen(0, '127.0.0.1')
  t.teardown(() => silent.close())
  await once(silent, 'listening')
  const address = `127.0.0.1:${(silent.address() as AddressInfo).port}`
  const { server } = await startServer(t, {
    DATABASE_URL: `postgres://u:p@${address}/d`, REDIS_URL: `redis://${address}`
  })
  const url = await listening(server)
  t.equal(await live(url), 200)
  t.strictSame(
    await ready(url), { status: 503, body: { status: 'unavailable', checks: { database: 'down', redis: 'down' } } }
  )
  server.kill('SIGTERM')
  t.equal((await server.closed).code, 0)
})

t.test('the service is not ready without a users table until db:migrate has run', async (t) => {
  const empty = await testDatabase(t, { isEmpty: true })
  const { server } = await startServer(t, { DATABASE_URL: empty.url })
  const url = await listening(server)
  t.equal(await live(url), 200)
  t.strictSame(await ready(url), databaseDown)
  t.match(
    logLines(server.stdout).filter(({ event }) => event === 'users_shape'),
    [{ level: 50, msg: /no table users: .*db:migrate/ }]
  )

  await migrate(empty.url)
  t.strictSame(await ready(url), everythingUp)
})

t.test('an uncaught error is logged and ends the process with 1', async (t) => {
  const crash = "data:text/javascript,process.on('SIGWINCH',()=>{throw%20new%20Error()})"
  const { server } = await startServer(t, { NODE_OPTIONS: `${process.env.NODE_OPTIONS ?? ''} --import=${crash}` })
  await listening(server)
  server.kill('SIGWINCH')
  const { code, stdout } = await server.closed
  t.equal(code, 1)
  t.match(logLines(stdout).at(-1), { level: 60, event: 'crash', err: { type: 'Error' } })
})
