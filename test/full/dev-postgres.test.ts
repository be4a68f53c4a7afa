import { execFileSync, spawn, spawnSync } from 'node:child_process'
import { once } from 'node:events'
import { existsSync, readFileSync, statSync } from 'node:fs'
import { mkdir, rename, rm, stat, writeFile } from 'node:fs/promises'
import { connect, createServer, type AddressInfo } from 'node:net'
import { dirname, join } from 'node:path'
import pg from 'pg'
import t, { type Test } from 'tap'
import { asSystemUser, asThisUser, run } from '../../src/dev/postgres-host.js'
import { startPostgres } from '../../src/dev/postgres.js'
import { freePort } from '../helpers/free-port.js'
import { isRunning, until } from '../helpers/server-process.js'
import { temporaryFolder } from '../helpers/servers.js'

const isRoot = process.getuid?.() === 0
const findHost = isRoot ? asSystemUser : asThisUser

/** A path for a data folder, below a folder that does not exist yet. */
async function emptyFolder (t: Test) {
  const { path, remove } = await temporaryFolder()
  t.teardown(remove)
  return join(path, '.data/postgres')
}

let made: string

/** A data folder that was used before: a copy of the one that `t.before` makes. */
async function usedFolder (t: Test) {
  const dataDir = await emptyFolder(t)
  await mkdir(dirname(dataDir), { recursive: true })
  execFileSync('cp', ['-a', made, dataDir])
  return dataDir
}

async function start (t: Test, dataDir: string) {
  const server = await startPostgres(dataDir)
  t.teardown(server.stop)
  return server
}

async function ask (url: string, statement: string): Promise<unknown[]> {
  const client = new pg.Client(url)
  await client.connect()
  try { return (await client.query(statement)).rows as unknown[] } finally { await client.end() }
}

/** Runs one of PostgreSQL's programs in a data folder, as the owner of the folder. */
async function runIn (dataDir: string, program: string, args: string[], input = '') {
  const host = await findHost()
  const { uid } = await stat(dataDir)
  await run(join(host.programs, program), ['-D', host.dataDir, ...args], { uid, gid: host.gid, cwd: dataDir, input })
}

/** Starts a PostgreSQL in `dataDir` without a process that supervises it. Returns its process id. */
async function orphan (dataDir: string): Promise<number> {
  const options = `-p ${await freePort()} -c listen_addresses=127.0.0.1 -c unix_socket_directories=`
  await runIn(dataDir, 'pg_ctl', ['start', '-w', '-l', '/dev/null', '-o', options])
  return Number(readFileSync(lockFile(dataDir), 'utf8').split('\n')[0])
}

const lockFile = (dataDir: string) => join(dataDir, 'postmaster.pid')
const notStarted = (reason: RegExp) => ({
  message: new RegExp(`^the embedded PostgreSQL does not start: [^\n]*${reason.source}[^\n]*$`)
})

t.before(async () => {
  const { path, remove } = await temporaryFolder()
  t.teardown(remove)
  made = join(path, 'made')
  const { url, stop } = await startPostgres(made)
  await ask(url, 'CREATE TABLE kept ()')
  await stop()
})

t.test('a stop keeps the data, leaves no process and no lock file, and is harmless twice', async (t) => {
  const dataDir = await usedFolder(t)
  const first = await start(t, dataDir)
  await first.stop()
  t.equal(isRunning(first.pid), false)
  t.equal(existsSync(lockFile(dataDir)), false)
  await first.stop()

  const second = await start(t, dataDir)
  t.strictSame(await ask(second.url, "SELECT to_regclass('kept')::text AS name"), [{ name: 'kept' }])
})

t.test('text is UTF-8 whatever the locale of the machine', async (t) => {
  const { url } = await start(t, await usedFolder(t))

  t.strictSame(
    await ask(url, "SELECT 'Айбек 😀' AS text, current_setting('server_encoding') AS encoding"),
    [{ text: 'Айбек 😀', encoding: 'UTF8' }]
  )
})

t.test('only the developer can connect, from this machine and with a random password', async (t) => {
  const dataDir = await emptyFolder(t)
  const { url, port } = await start(t, dataDir)
  const { url: other } = await start(t, await emptyFolder(t))
  const passwordFile = join(dataDir, 'password')
  const { password } = new URL(url)

  t.match(password, /^[0-9a-f]{48}$/)
  t.equal(readFileSync(passwordFile, 'utf8'), password)
  t.not(new URL(other).password, password)
  t.equal(statSync(passwordFile).mode & 0o777, 0o600)
  t.equal(statSync(dataDir).mode & 0o777, 0o700)
  if (isRoot) t.not(spawnSync('cat', [passwordFile], { uid: 65_534, gid: 65_534 }).status, 0)
  for (const guess of ['', ':postgres', ':password']) {
    await t.rejects(ask(`postgres://postgres${guess}@127.0.0.1:${port}/postgres`, 'SELECT'), guess)
  }
  t.strictSame(await ask(url, 'SELECT type, address, auth_method FROM pg_hba_file_rules'), [
    { type: 'host', address: '127.0.0.1', auth_method: 'scram-sha-256' }
  ])
  t.strictSame(
    await ask(url, "SELECT left(rolpassword, 13) AS hash FROM pg_authid WHERE rolpassword <> ''"),
    [{ hash: 'SCRAM-SHA-256' }]
  )
  await t.rejects(once(connect(port, '127.0.0.2'), 'connect'), { code: 'ECONNREFUSED' })
})

t.test('a data folder of an earlier version keeps its data and loses its known password', async (t) => {
  const dataDir = await usedFolder(t)
  const first = await start(t, dataDir)
  await ask(first.url, "ALTER ROLE postgres PASSWORD 'postgres'")
  await first.stop()
  await writeFile(
    join(dataDir, 'pg_hba.conf'),
    'local all all trust\nhost all all 127.0.0.1/32 password\nhost all all ::1/128 trust\n'
  )
  await rm(join(dataDir, 'password'))

  const { url, port } = await start(t, dataDir)
  t.strictSame(await ask(url, "SELECT to_regclass('kept')::text AS name"), [{ name: 'kept' }])
  await t.rejects(ask(`postgres://postgres:postgres@127.0.0.1:${port}/postgres`, 'SELECT'), { code: '28P01' })
  t.strictSame(await ask(url, 'SELECT auth_method FROM pg_hba_file_rules'), [{ auth_method: 'scram-sha-256' }])
})

t.test('a data folder with files of root, for example after a copy, is used', async (t) => {
  const dataDir = await usedFolder(t)
  execFileSync('chown', ['-R', String(process.getuid?.()), dataDir])

  const { url } = await start(t, dataDir)
  t.strictSame(await ask(url, 'SELECT 1 AS one'), [{ one: 1 }])
})

t.test('leftovers of interrupted first starts are removed, but not the folder of one that is running', async (t) => {
  const dataDir = await emptyFolder(t)
  const { pid: gone } = spawnSync('true')
  const [older, interrupted, ongoing] = [
    `${dataDir}.new`, `${dataDir}.new-${gone}`, `${dataDir}.new-${process.ppid}`
  ] as const
  for (const folder of [older, interrupted, ongoing]) {
    await mkdir(folder, { recursive: true })
    await writeFile(join(folder, 'PG_VERSION'), '18\n')
  }
  await writeFile(join(dataDir, '../notes'), '')

  await start(t, dataDir)
  t.strictSame([older, interrupted, ongoing, join(dataDir, '../notes')].map(existsSync), [false, false, true, true])
})

t.test('a start that fails gives the reason in one line and changes nothing in the folder', async (t) => {
  const dataDir = await emptyFolder(t)
  await mkdir(dataDir, { recursive: true })
  await t.rejects(startPostgres(dataDir), notStarted(/postgresql\.conf/))
  t.equal(existsSync(join(dataDir, 'pg_hba.conf')), false)
  await mkdir(join(dataDir, 'password'))
  await t.rejects(startPostgres(dataDir), notStarted(/EISDIR/))

  const taken = createServer().listen(0, '127.0.0.1')
  t.teardown(() => taken.close())
  await once(taken, 'listening')
  await t.rejects(
    startPostgres(await usedFolder(t), { port: (taken.address() as AddressInfo).port }), notStarted(/TCP/)
  )
})

t.test('settings with shell characters reach PostgreSQL unchanged', async (t) => {
  const server = await startPostgres(await usedFolder(t), { flags: ['-c', "cluster_name=it's $HOME"] })
  t.teardown(server.stop)

  t.strictSame(await ask(server.url, 'SHOW cluster_name'), [{ cluster_name: "it's $HOME" }])
})

t.test('a PostgreSQL whose parent process lives is not stopped', async (t) => {
  const dataDir = await usedFolder(t)
  const { url } = await start(t, dataDir)

  await t.rejects(startPostgres(dataDir), notStarted(/another process/))
  t.strictSame(await ask(url, 'SELECT 1 AS one'), [{ one: 1 }])
})

t.test('a PostgreSQL without a parent process is stopped first, even with clients connected', async (t) => {
  const dataDir = await usedFolder(t)
  const pid = await orphan(dataDir)
  const password = readFileSync(join(dataDir, 'password'), 'utf8')
  const client = new pg.Client(
    `postgres://postgres:${password}@127.0.0.1:${readFileSync(lockFile(dataDir), 'utf8').split('\n')[3]}/postgres`
  )
  client.on('error', () => {})
  await client.connect()
  t.equal(isRunning(pid), true)

  await start(t, dataDir)
  t.equal(isRunning(pid), false)
})

t.test('a PostgreSQL that does not respond or refuses the password is named and not stopped', async (t) => {
  const dataDir = await usedFolder(t)
  const pid = await orphan(dataDir)
  t.teardown(() => runIn(dataDir, 'pg_ctl', ['stop', '-m', 'immediate']))
  const named = notStarted(new RegExp(`\\b${pid}\\b`))

  process.kill(pid, 'SIGSTOP')
  await t.rejects(startPostgres(dataDir), named)
  process.kill(pid, 'SIGCONT')
  await rename(join(dataDir, 'password'), join(dataDir, 'other'))
  await t.rejects(startPostgres(dataDir), named)
  t.equal(isRunning(pid), true)
})

t.test('a lock file that names an unrelated process does not harm this process', async (t) => {
  const dataDir = await usedFolder(t)
  const { uid, gid } = await stat(dataDir)
  const other = spawn('sleep', ['600'], { stdio: 'ignore', ...isRoot && { uid, gid } })
  t.teardown(() => other.kill('SIGKILL'))
  const lock = (status: string) => `${other.pid}\n${dataDir}\n1795420000\n1\n\n127.0.0.1\n  1234567  1\n${status}\n`

  t.test('PostgreSQL starts if the process does not listen on the port', async (t) => {
    await writeFile(lockFile(dataDir), lock('ready   '))
    const { pid, stop } = await start(t, dataDir)
    t.equal(isRunning(pid), true)
    t.equal(isRunning(other.pid as number), true)
    await stop()
  })

  t.test('the process is named if it never becomes ready', async (t) => {
    await writeFile(lockFile(dataDir), lock('starting'))
    let now = Date.now()
    t.intercept(Date, 'now', { value: () => (now += 50_000) })
    await t.rejects(startPostgres(dataDir), notStarted(new RegExp(`\\b${other.pid}\\b`)))
    t.equal(isRunning(other.pid as number), true)
  })
})

t.test('a PostgreSQL ends with the process that started it, even by kill -9', async (t) => {
  const dataDir = await usedFolder(t)
  const script = `
    import { startPostgres } from '${new URL('../../src/dev/postgres.js', import.meta.url).href}'
    console.log((await startPostgres('${dataDir}')).pid)`
  const starter = spawn(process.execPath, ['--input-type=module', '-e', script], {
    stdio: ['ignore', 'pipe', 'inherit'], detached: true
  })
  const [pid] = await once(starter.stdout.setEncoding('utf8'), 'data') as [string]
  t.equal(isRunning(Number(pid)), true)

  process.kill(-(starter.pid as number), 'SIGKILL')
  await until(() => !isRunning(Number(pid)) && !existsSync(lockFile(dataDir)))
})
