import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { createServer, type AddressInfo } from 'node:net'
import { join, resolve } from 'node:path'
import { holdLock, prepare, readLockFile, urlOf } from './postgres-folder.js'
import { asSystemUser, asThisUser, reason } from './postgres-host.js'

/**
 * Starts PostgreSQL, and stops it when standard input ends: on request, or when the parent process has ended, even by
 * kill -9. Runs in a session of its own, where Ctrl-C does not reach it. The trap is for a parent that ends before it
 * reads that PostgreSQL has started.
 */
const supervise = `
  trap '' PIPE
  "$0" start --silent -w -D "$1" -o "$2" >&2 || exit
  echo started
  read -r end
  "$0" stop --silent -w -m fast -D "$1"`

/** A free TCP port of 127.0.0.1. */
async function freePort (): Promise<number> {
  const server = createServer().listen(0, '127.0.0.1')
  await once(server, 'listening')
  const { port } = server.address() as AddressInfo
  server.close()
  await once(server, 'close')
  return port
}

/** The host by whether this process runs as root: PostgreSQL refuses to run as root. */
const hostFor = { true: asSystemUser, false: asThisUser }

interface PostgresOptions {
  port?: number
  flags?: string[]
}

async function start (folder: string, { port: givenPort, flags = [] }: PostgresOptions) {
  const host = await hostFor[`${process.getuid?.() === 0}`]()
  const { uid, gid, programs, dataDir } = await prepare(folder, host)
  // As late as possible: until PostgreSQL listens, any process can take the port.
  const port = givenPort ?? await freePort()
  const settings = ['-p', String(port), '-c', 'listen_addresses=127.0.0.1', '-c', 'unix_socket_directories=', ...flags]
  const quoted = settings.map((setting) => `'${setting.replaceAll("'", "'\\''")}'`).join(' ')
  const supervisor = spawn('sh', ['-c', supervise, join(programs, 'pg_ctl'), dataDir, quoted],
    { cwd: folder, uid, gid, detached: true })
  const exited = once(supervisor, 'exit')
  let log = ''
  supervisor.stderr.setEncoding('utf8').on('data', (text: string) => { log = (log + text).slice(-10_000) })
  const stop = async () => {
    supervisor.stdin.end()
    await exited
  }
  try {
    const isStarted = await Promise.race([once(supervisor.stdout, 'data').then(() => true), exited.then(() => false)])
    if (!isStarted) throw new Error(reason(log))
    const url = await urlOf(folder, port)
    await holdLock(url)
    return { url, port, pid: (await readLockFile(folder)).pid, stop }
  } catch (error) {
    await stop()
    throw error
  }
}

/**
 * Starts an embedded PostgreSQL with its data in `folder`; a missing folder is created. The server accepts connections
 * from this machine with the password in the folder, and ends with this process. Returns its URL, its port, its process
 * id and the function that stops it. Throws an error with a one-line message.
 */
export async function startPostgres (folder: string, options: PostgresOptions = {}) {
  return await start(resolve(folder), options).catch((error: Error) => {
    throw new Error(`the embedded PostgreSQL does not start: ${error.message}`, { cause: error })
  })
}
