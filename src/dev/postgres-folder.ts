import { randomBytes } from 'node:crypto'
import { existsSync } from 'node:fs'
import { chown, mkdir, readdir, readFile, rename, rm, stat, writeFile } from 'node:fs/promises'
import { dirname, join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import pg from 'pg'
import { ignore, run, type PostgresHost } from './postgres-host.js'

/** The key of the advisory lock, which no other program locks: "dev" in ASCII. */
const lockKey = 0x646576
/**
 * Longest time for a process of an earlier run to respond, and to end, and how often it is checked, in milliseconds.
 */
const connectMs = 5000
const endMs = 60_000
const pollMs = 20

/** SQLSTATE cannot_connect_now. */
const shuttingDown = '57P03'
/** A PostgreSQL that has run for a shorter time may not hold the lock of the process that started it yet. */
const youngSeconds = 5

/** A text file; empty if it does not exist. */
const readText = (path: string) => readFile(path, 'utf8').catch((error: NodeJS.ErrnoException) => {
  if (error.code !== 'ENOENT') throw error
  return ''
})

const lockFile = (folder: string) => join(folder, 'postmaster.pid')
const passwordFile = (folder: string) => join(folder, 'password')

/** Runs one of PostgreSQL's programs in a data folder. */
function runIn (
  folder: string,
  { uid, gid, programs, dataDir }: PostgresHost,
  [program, mode, ...args]: [string, string, ...string[]],
  input = ''
) {
  return run(join(programs, program), [mode, '-D', dataDir, ...args], { uid, gid, cwd: folder, input })
}

const readPassword = (folder: string) => readText(passwordFile(folder))

/** What PostgreSQL writes about itself when it starts in a data folder; 0 and empty text if it does not run. */
export async function readLockFile (folder: string) {
  const [pid = '', , , port = '', , , , status = ''] = (await readText(lockFile(folder))).split('\n')
  return { pid: Number(pid), port, status: status.trim() }
}

export const urlOf = async (folder: string, port: number | string) =>
  `postgres://postgres:${await readPassword(folder)}@127.0.0.1:${port}/postgres`

async function connect (url: string) {
  const client = new pg.Client({ connectionString: url, connectionTimeoutMillis: connectMs })
  client.on('error', ignore)
  await client.connect()
  return client
}

/** Marks the PostgreSQL at `url` as used by this process, until the server or this process ends. */
export async function holdLock (url: string): Promise<void> {
  const client = await connect(url)
  await client.query('SELECT pg_advisory_lock($1)', [lockKey])
}

/**
 * Closes the database to everyone who does not know the password in the data folder. Works without a running server, so
 * that nothing is open meanwhile. Writes the password file last, as the sign that all is done. A folder of an earlier
 * version has no such file.
 */
async function secure (folder: string, host: PostgresHost) {
  if (await readPassword(folder) !== '') return
  const password = randomBytes(24).toString('hex')
  await runIn(folder, host, ['postgres', '--single', 'postgres'], `ALTER ROLE postgres PASSWORD '${password}'\n`)
  await writeFile(join(folder, 'pg_hba.conf'), 'host all all 127.0.0.1/32 scram-sha-256\n')
  await writeFile(passwordFile(folder), password, { mode: 0o600 })
  await chown(passwordFile(folder), host.uid, host.gid)
}

function isGone (pid: number) {
  try {
    process.kill(pid, 0)
    return false
  } catch (error) {
    return (error as NodeJS.ErrnoException).code === 'ESRCH'
  }
}

/**
 * Returns `host` with the owner of a folder as user. PostgreSQL cannot use files of root: they go to the user of
 * `host`.
 */
async function asOwner (folder: string, host: PostgresHost): Promise<PostgresHost> {
  await run('find', [folder, '-user', '0', '-exec', 'chown', '-h', `${host.uid}:${host.gid}`, '{}', '+'])
  return { ...host, uid: (await stat(folder)).uid }
}

/** Makes a data folder in one step: until the folder is complete, its name contains the process id of its maker. */
async function initialise (folder: string, host: PostgresHost) {
  for (const name of await readdir(dirname(folder))) {
    const [isPartial, maker = process.pid] = name.match(/\.new(?:-(\d+))?$/) ?? []
    if (isPartial && (Number(maker) === process.pid || isGone(Number(maker)))) {
      await rm(join(dirname(folder), name), { recursive: true, force: true })
    }
  }
  const partial = `${folder}.new-${process.pid}`
  await mkdir(partial, { mode: 0o700 })
  const owner = await asOwner(partial, host)
  // A sync takes most of the time on a busy disk, and there is no data yet that a power cut could destroy.
  await runIn(partial, owner,
    ['initdb', '--no-sync', '--username=postgres', '--auth=reject', '--encoding=UTF8', '--locale=C'])
  await secure(partial, owner)
  // Fails if another process was quicker. The lock then decides which of the two works in the folder.
  await rename(partial, folder).catch(ignore)
  await rm(partial, { recursive: true, force: true })
}

/**
 * Stops a PostgreSQL that an earlier run left running in the folder. Throws if another process still uses it. Stops
 * only a server that accepts the folder's password: after a crash the lock file may name an unrelated process.
 */
async function endEarlierRun (folder: string, host: PostgresHost) {
  const isRunning = () => runIn(folder, host, ['pg_ctl', 'status']).then(() => true, () => false)
  for (const end = Date.now() + endMs; await isRunning(); await sleep(pollMs)) {
    const { pid, port, status } = await readLockFile(folder)
    if (Date.now() > end) throw new Error(`process ${pid} works in ${folder} and does not end, kill it`)
    if (status !== 'ready') continue
    const client = await connect(await urlOf(folder, port)).catch(async (error: NodeJS.ErrnoException) => {
      // PostgreSQL listens as long as its status is ready, so the lock file names an unrelated process.
      if (error.code === 'ECONNREFUSED') await rm(lockFile(folder), { force: true })
      else if (error.code !== shuttingDown) {
        throw new Error(`process ${pid} works in ${folder} and does not let this one in, kill it`)
      }
    })
    if (!client) continue
    // The process that started a young server may be about to lock it.
    const { rows: [found] } = await client.query<{ isFree: boolean, isYoung: boolean }>(
      `SELECT pg_try_advisory_lock($1) AS "isFree",
        clock_timestamp() < pg_postmaster_start_time() + interval '${youngSeconds} s' AS "isYoung"`, [lockKey])
    await client.end()
    if (!found?.isFree) throw new Error(`another process works in ${folder}, stop it first`)
    if (!found.isYoung) await runIn(folder, host, ['pg_ctl', 'stop', '-m', 'fast'])
  }
}

/**
 * Makes sure that `folder` is a data folder in which nothing runs and which only its password opens. Returns the host
 * for PostgreSQL there, with its user. Throws an error with a one-line message.
 */
export async function prepare (folder: string, host: PostgresHost): Promise<PostgresHost> {
  await mkdir(dirname(folder), { recursive: true })
  if (!existsSync(folder)) await initialise(folder, host)
  const owner = await asOwner(folder, host)
  await endEarlierRun(folder, owner)
  await secure(folder, owner)
  return owner
}
