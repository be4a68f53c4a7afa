import { execFileSync } from 'node:child_process'
import { once } from 'node:events'
import { existsSync, readFileSync } from 'node:fs'
import { chmod, mkdir, readdir, writeFile } from 'node:fs/promises'
import { connect, createServer, type AddressInfo } from 'node:net'
import { join } from 'node:path'
import t, { type Test } from 'tap'
import { freePort } from '../helpers/free-port.js'
import { isRunning, startProcess, until, type ServiceProcess } from '../helpers/server-process.js'
import { client, newPhone, productionEnv, testDatabase, testRedis } from '../helpers/service.js'
import { temporaryFolder } from '../helpers/servers.js'

type Environment = Record<string, string | undefined>

async function emptyFolder (t: Test) {
  const { path, remove } = await temporaryFolder()
  t.teardown(remove)
  return path
}

/** Starts npm run dev as a shell does, without the stores of the tests. */
const startDev = (t: Test, cwd: string, env: Environment = {}) =>
  startProcess(t, 'dev', {
    cwd,
    isGroup: true,
    env: { PORT: '0', METRICS_PORT: '0', DATABASE_URL: undefined, REDIS_URL: undefined, NODE_ENV: undefined, ...env }
  })

/** Waits until the process prints what to try next. Returns the URL on which it listens. */
async function listening (dev: ServiceProcess) {
  const [, url] = await dev.shows(/listens on (http:\/\/localhost:\d+)\n[\s\S]*verify-code.*\n/)
  return url as string
}

/** Signs in as a developer does, with the code that is printed. */
async function login (dev: ServiceProcess, phone: string) {
  const { request, verify, send } = client(await listening(dev), [])
  const { status } = await send(phone)
  if (status !== 200) throw new Error(`send-verification responded ${status}`)
  const [, code] = await dev.shows(new RegExp(`SMS to \\${phone}\n.*?(\\d{6})\n`))
  const { body } = await verify(phone, code as string)
  return { request, token: body.access_token as string, isNew: body.is_new_user as boolean }
}

const dataDir = (cwd: string) => join(cwd, '.data/postgres')
const lockFile = (cwd: string) => join(dataDir(cwd), 'postmaster.pid')
const lockLine = (cwd: string, line: number) => readFileSync(lockFile(cwd), 'utf8').split('\n')[line - 1] ?? ''
const postmaster = (cwd: string) => Number(lockLine(cwd, 1))
const isStarted = (cwd: string) => existsSync(lockFile(cwd)) && lockLine(cwd, 8).trim() === 'ready'

/** Asserts that the process ends with 1 and one line and leaves no PostgreSQL. */
async function failsWith (t: Test, dev: ServiceProcess, cwd: string, line: RegExp) {
  const { code, stderr } = await dev.closed
  t.equal(code, 1)
  t.match(stderr, line)
  t.equal(stderr.split('\n').length, 2, 'one line')
  t.equal(existsSync(lockFile(cwd)), false)
}

t.test('npm run dev in an empty folder starts a service to sign in to, and Ctrl-C ends all processes', async (t) => {
  const cwd = await emptyFolder(t)
  const dev = startDev(t, cwd)
  const { host } = new URL(await listening(dev))
  t.match(
    dev.stdout, new RegExp(`PostgreSQL: embedded, port ${lockLine(cwd, 4)}, data and password in \\.data/postgres\n`)
  )
  t.match(dev.stdout, /codes: in memory\n/)
  t.match(dev.stdout, new RegExp(`curl .*${host}/api/v1/auth/send-verification`))
  t.match(dev.stdout, new RegExp(`curl .*${host}/api/v1/auth/verify-code`))

  const { request, token, isNew } = await login(dev, newPhone())
  t.equal(isNew, true)
  t.equal((await request('GET', '/api/v1/users/me', { token })).status, 200)
  t.equal((await request('POST', '/api/v1/auth/logout', { token })).status, 200)
  t.equal((await request('GET', '/api/v1/users/me', { token })).status, 401)
  t.strictSame((await request('GET', '/health/ready')).body, { status: 'ok', checks: { database: 'up', redis: 'up' } })
  t.strictSame((await request('GET', '/health/live')).body, { status: 'ok' })
  await dev.shows(/event: "logout"/)
  // The playground, and its requests.
  t.match((await fetch(`http://${host}/`)).headers.get('content-type'), 'text/html')
  t.match((await request('GET', '/dev/inbox')).body.messages, [{ text: /\d{6}/ }])
  t.equal((await fetch(`http://${host}/docs`)).status, 200)

  const pid = postmaster(cwd)
  const shown = dev.stdout.length
  // A terminal signals the whole group, and npm then forwards the signal once more.
  dev.kill('SIGINT')
  dev.kill('SIGINT')
  const { code, stdout, stderr } = await dev.closed
  t.equal(code, 0)
  t.equal(stdout.slice(shown), '')
  t.equal(stderr, '')
  t.equal(isRunning(pid), false)
  t.equal(existsSync(lockFile(cwd)), false)
})

t.test('a start with the data of an earlier run', async (t) => {
  const made = await emptyFolder(t)
  const phone = newPhone()
  const first = startDev(t, made)
  await login(first, phone)
  first.kill('SIGTERM')
  t.equal((await first.closed).code, 0)

  /** A folder with the data of a run that ended normally. */
  const usedFolder = async (t: Test) => {
    const cwd = await emptyFolder(t)
    execFileSync('cp', ['-a', join(made, '.data'), cwd])
    return cwd
  }
  /** Starts a run and ends it by kill -9. Returns the process id of its PostgreSQL. */
  const killed = async (t: Test, cwd: string) => {
    const dev = startDev(t, cwd)
    await listening(dev)
    const pid = postmaster(cwd)
    dev.kill('SIGKILL')
    await dev.closed
    return pid
  }

  t.test('after kill -9 the next start finds the data and stops the earlier PostgreSQL', async (t) => {
    const cwd = await usedFolder(t)
    const survivor = await killed(t, cwd)

    const next = startDev(t, cwd)
    t.equal((await login(next, phone)).isNew, false)
    t.equal(isRunning(survivor), false)
    next.kill('SIGINT')
    t.equal((await next.closed).code, 0)
  })

  t.test('a second start in the same folder ends with one line and does not disturb the first one', async (t) => {
    const cwd = await usedFolder(t)
    const dev = startDev(t, cwd)
    const url = await listening(dev)
    const { code, stderr } = await startDev(t, cwd).closed
    t.equal(code, 1)
    t.match(stderr, /^phone-auth: .*another process.*\n$/)
    t.equal((await fetch(`${url}/health/ready`)).status, 200)
  })

  t.test('a port in use ends with one line and leaves no PostgreSQL', async (t) => {
    const cwd = await usedFolder(t)
    const taken = createServer().listen(0, '127.0.0.1')
    t.teardown(() => taken.close())
    await once(taken, 'listening')
    await failsWith(
      t, startDev(t, cwd, { PORT: String((taken.address() as AddressInfo).port) }), cwd, /^phone-auth: .*PORT/
    )
  })

  t.test('a wrong environment ends with its issues and leaves no PostgreSQL', async (t) => {
    const cwd = await usedFolder(t)
    await failsWith(t, startDev(t, cwd, { LOG_LEVEL: 'loud' }), cwd, /^phone-auth: LOG_LEVEL /)
  })

  for (const signal of ['SIGINT', 'SIGHUP'] as const) {
    t.test(`${signal} during the start ends the process at once with 0 and leaves no PostgreSQL`, async (t) => {
      const cwd = await usedFolder(t)
      const dev = startDev(t, cwd)
      await until(() => isStarted(cwd))
      const pid = postmaster(cwd)

      dev.kill(signal)
      t.match(await dev.closed, { code: 0, stderr: '' })
      await until(() => !isRunning(pid) && !existsSync(lockFile(cwd)))
    })
  }
})

t.test('npm run dev works below a folder that others cannot enter, for every user, root included', async (t) => {
  const closed = join(await emptyFolder(t), 'closed')
  const cwd = join(closed, 'work')
  await mkdir(cwd, { recursive: true })
  await chmod(closed, 0o700)

  const dev = startDev(t, cwd)
  const { isNew } = await login(dev, newPhone())
  t.equal(isNew, true)
  t.ok(existsSync(join(dataDir(cwd), 'password')))
  dev.kill('SIGINT')
  t.equal((await dev.closed).code, 0)
})

t.test('of two first starts at once in one folder, one serves and the other one ends with one line', async (t) => {
  const cwd = await emptyFolder(t)
  const starts = [startDev(t, cwd), startDev(t, cwd)]

  const served = await Promise.race(
    starts.map(async (dev) => ({ dev, url: await listening(dev).catch(() => undefined) }))
  )
  const url = served.url ?? await listening(starts.find((dev) => dev !== served.dev) as ServiceProcess)
  const { code, stderr } = await Promise.race(starts.map(({ closed }) => closed))
  t.equal(code, 1)
  t.match(stderr, /^phone-auth: the embedded PostgreSQL does not start: .*(?:another process|lock file).*\n$/)
  t.equal((await fetch(`${url}/health/ready`)).status, 200)
  t.equal((await readdir(join(cwd, '.data'))).length, 1)
})

t.test('npm run dev listens only on the loopback interface, metrics included, unless HOST is set', async (t) => {
  const { url: databaseUrl } = await testDatabase(t, { isEmpty: true })
  const listensOn = (port: number) => async (host: string) => {
    const socket = connect(port, host)
    t.teardown(() => socket.destroy())
    return await once(socket, 'connect').then(() => true, () => false)
  }
  for (const [HOST, isOpen] of [['', false], ['0.0.0.0', true]] as const) {
    const metricsPort = await freePort()
    const dev = startDev(t, await emptyFolder(t), {
      DATABASE_URL: databaseUrl, HOST, METRICS_PORT: String(metricsPort)
    })
    const [, port] = await dev.shows(/listens on http:\/\/localhost:(\d+)\n/)
    await dev.shows(new RegExp(`metrics: http://localhost:${metricsPort}/metrics\n`))

    for (const listener of [Number(port), metricsPort]) {
      t.equal(await listensOn(listener)('127.0.0.2'), isOpen, `HOST=${HOST}`)
    }
  }
})

t.test('npm run dev uses DATABASE_URL and REDIS_URL of .env, and the environment overrides .env', async (t) => {
  const cwd = await emptyFolder(t)
  const { url: databaseUrl, sql } = await testDatabase(t, { isEmpty: true })
  const { url: redisUrl, redis } = await testRedis(t)
  await writeFile(
    join(cwd, '.env'), `DATABASE_URL=${databaseUrl}\nREDIS_URL=${redisUrl}\nSMS_APP_NAME=Dotenv\nLOG_LEVEL=loud\n`
  )
  const dev = startDev(t, cwd, { LOG_LEVEL: 'warn' })
  const phone = newPhone()
  await login(dev, phone)
  t.match(dev.stdout, /PostgreSQL: DATABASE_URL\n {2}codes: REDIS_URL\n/)
  t.match(dev.stdout, /Dotenv/)
  t.strictSame(await sql('SELECT phone_number FROM users'), [{ phone_number: phone }])
  t.equal((await redis.keys('phone-auth:code:*')).length, 1)
  t.equal(existsSync(join(cwd, '.data')), false)
  dev.kill('SIGINT')
  t.equal((await dev.closed).code, 0)
})

t.test('npm run dev with NODE_ENV=production has no playground', async (t) => {
  const cwd = await emptyFolder(t)
  const { url: databaseUrl } = await testDatabase(t, { isEmpty: true })
  const { url: redisUrl } = await testRedis(t)
  const url = await listening(startDev(t, cwd, productionEnv(databaseUrl, redisUrl)))
  for (const path of ['/', '/dev/inbox', '/dev/user', '/docs', '/openapi.json']) {
    t.equal((await fetch(url + path)).status, 404, path)
  }
})
