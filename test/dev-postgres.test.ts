import { execFileSync, spawn } from 'node:child_process'
import { existsSync, readFileSync } from 'node:fs'
import { mkdir, stat, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import pg from 'pg'
import t, { type Test } from 'tap'
import { startPostgres } from '../src/dev-postgres.js'
import { isRunning, until } from './helpers/server-process.js'
import { temporaryFolder } from './helpers/servers.js'

/** Where a data folder may be made, below a folder that is not there yet. */
async function emptyFolder (t: Test) {
  const { path, remove } = await temporaryFolder()
  t.teardown(remove)
  return join(path, '.data/postgres')
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

const lockFile = (dataDir: string) => join(dataDir, 'postmaster.pid')

t.test('what was written is there at the next start; stopping leaves no process and no lock, and twice is harmless', async (t) => {
  const dataDir = await emptyFolder(t)
  const first = await start(t, dataDir)
  await ask(first.url, 'CREATE TABLE kept ()')
  await first.stop()
  t.equal(isRunning(first.pid), false)
  t.equal(existsSync(lockFile(dataDir)), false)
  await first.stop()
  const second = await start(t, dataDir)
  t.strictSame(await ask(second.url, "SELECT to_regclass('kept')::text AS name"), [{ name: 'kept' }])
})

t.test('text is UTF-8 whatever the locale of the machine', async (t) => {
  const { url } = await start(t, await emptyFolder(t))
  t.strictSame(await ask(url, "SELECT 'Айбек 😀' AS text, current_setting('server_encoding') AS encoding"), [{ text: 'Айбек 😀', encoding: 'UTF8' }])
})

t.test('what an interrupted first start left halfway does not spoil the next', async (t) => {
  const dataDir = await emptyFolder(t)
  await mkdir(`${dataDir}.new`, { recursive: true })
  await writeFile(join(`${dataDir}.new`, 'PG_VERSION'), '18\n')
  const { url } = await start(t, dataDir)
  t.strictSame(await ask(url, 'SELECT 1 AS one'), [{ one: 1 }])
  t.equal(existsSync(`${dataDir}.new`), false)
})

t.test('a folder that is no data folder is told in one line', async (t) => {
  const dataDir = await emptyFolder(t)
  await mkdir(dataDir, { recursive: true })
  await t.rejects(startPostgres(dataDir), { message: /^the embedded PostgreSQL does not start: [^\n]+$/ })
})

t.test('a PostgreSQL whose starter lives is left alone', async (t) => {
  const dataDir = await emptyFolder(t)
  const { url } = await start(t, dataDir)
  await t.rejects(startPostgres(dataDir), { message: /another process/ })
  t.strictSame(await ask(url, 'SELECT 1 AS one'), [{ one: 1 }])
})

t.test('a lock that names a process of somebody else is no obstacle, and that process lives on', async (t) => {
  const dataDir = await emptyFolder(t)
  await (await start(t, dataDir)).stop()
  const other = spawn(process.execPath, ['-e', 'setInterval(() => {}, 1000)'], { stdio: 'ignore' })
  t.teardown(() => other.kill('SIGKILL'))
  await writeFile(lockFile(dataDir), `${other.pid}\n${dataDir}\n`)
  const { pid } = await start(t, dataDir)
  t.equal(isRunning(pid), true)
  t.equal(isRunning(other.pid as number), true)
})

/** A PostgreSQL in `dataDir` whose starter is gone. */
async function orphan (dataDir: string): Promise<number> {
  const { pid, port, stop } = await startPostgres(dataDir)
  const binary = readFileSync(`/proc/${pid}/cmdline`, 'utf8').split('\0')[0] as string
  await stop()
  const { uid, gid } = await stat(dataDir)
  execFileSync('sh', ['-c', `"${binary}" -D "${dataDir}" -h 127.0.0.1 -p ${port} -c unix_socket_directories= > /dev/null 2>&1 &`],
    { ...process.getuid?.() === 0 && { uid, gid } })
  const lock = () => existsSync(lockFile(dataDir)) ? readFileSync(lockFile(dataDir), 'utf8') : ''
  await until(() => lock().includes('ready'))
  return Number(lock().split('\n')[0])
}

t.test('a PostgreSQL that a killed run left is ended first', async (t) => {
  const dataDir = await emptyFolder(t)
  const pid = await orphan(dataDir)
  t.equal(isRunning(pid), true)
  await start(t, dataDir)
  t.equal(isRunning(pid), false)
})

t.test('one that does not end is named in one line', async (t) => {
  const dataDir = await emptyFolder(t)
  const pid = await orphan(dataDir)
  process.kill(pid, 'SIGSTOP')
  await t.rejects(startPostgres(dataDir), { message: new RegExp(`^[^\n]*\\b${pid}\\b[^\n]*$`) })
  process.kill(pid, 'SIGCONT')
  await until(() => !isRunning(pid))
})
