import { execFileSync, spawn } from 'node:child_process'
import { once } from 'node:events'
import { existsSync } from 'node:fs'
import { chmod, mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { delimiter, join } from 'node:path'
import { Redis } from 'ioredis'
import { startPostgres } from '../../src/dev/postgres.js'
import { freePort } from './free-port.js'

const inPath = (name: string) =>
  (process.env.PATH ?? '').split(delimiter).map((folder) => join(folder, name)).find(existsSync)

/** Installs a package as root on Debian or Ubuntu; does nothing elsewhere. */
export function install (debianPackage: string) {
  if (process.getuid?.() !== 0 || !inPath('apt-get')) return
  const env = { ...process.env, DEBIAN_FRONTEND: 'noninteractive' }
  execFileSync('apt-get', ['update', '-qq'], { stdio: 'ignore', env })
  execFileSync('apt-get', ['install', '-y', '-qq', '--no-install-recommends', debianPackage], { stdio: 'ignore', env })
}

/**
 * The path of the first of these programs in PATH. If all are missing, root on Debian or Ubuntu installs the package.
 */
export function program (names: string[], debianPackage: string): string {
  const find = () => names.map(inPath).find((path) => path !== undefined)
  const found = find()
  if (found) return found
  install(debianPackage)
  const installed = find()
  if (installed) return installed
  const formula = names[0]?.replace('-server', '')
  throw new Error(
    `${names.join(' or ')} is missing in PATH: apt-get install ${debianPackage}, or brew install ${formula}`
  )
}

const redisBinary = () => program(['redis-server', 'valkey-server'], 'redis-server')

/** A folder that other users may enter, because the workers of gateways must. `remove` deletes it. */
export async function temporaryFolder () {
  const path = await mkdtemp(join(tmpdir(), 'phone-auth-'))
  await chmod(path, 0o755)
  // A process that is ending may still write into the folder.
  return { path, remove: () => rm(path, { recursive: true, force: true, maxRetries: 20, retryDelay: 100 }) }
}

interface RedisOptions { port?: number, configFile?: string, password?: string | undefined, args?: string[] }

/** Starts a Redis that keeps nothing on disk, with a thousand databases so that each test has its own. */
export async function startRedis (options: RedisOptions = {}) {
  // Another program may take a port between its choice and its use.
  for (let tries = 0; tries < 5; tries++) {
    const server = await startRedisOn(options.port ?? await freePort(), options)
    if (server) return server
  }
  throw new Error('redis-server does not start')
}

/** Returns undefined if the server ends before it responds, for example because the port is taken. */
async function startRedisOn (chosenPort: number, { configFile, password, args = [] }: RedisOptions) {
  const child = spawn(redisBinary(), [
    ...configFile ? [configFile] : [],
    '--port', String(chosenPort), '--bind', '127.0.0.1',
    '--save', '', '--appendonly', 'no', '--databases', '1000',
    ...password ? ['--requirepass', password] : [],
    ...args
  ], { stdio: 'ignore' })
  const kill = () => child.kill('SIGKILL')
  process.once('exit', kill)
  child.once('exit', () => process.off('exit', kill))
  const client = new Redis({
    host: '127.0.0.1',
    port: chosenPort,
    ...(password && { password }),
    retryStrategy: () => 20,
    maxRetriesPerRequest: null
  })
  client.on('error', () => {})
  const isOwn = client.info('server').then((info) => info.includes(`process_id:${child.pid}\r`), () => false)
  const isUp = await Promise.race([isOwn, once(child, 'exit').then(() => false)])
  client.disconnect()
  if (!isUp) return undefined
  return {
    url: `redis://127.0.0.1:${chosenPort}`,
    port: chosenPort,
    pid: child.pid as number,
    async stop () {
      if (child.exitCode !== null || child.signalCode !== null) return
      kill()
      await once(child, 'exit')
    }
  }
}

/** Starts a PostgreSQL in a temporary folder, fast rather than safe against a power cut. */
export async function startTestPostgres (options: { flags?: string[] } = {}) {
  const folder = await temporaryFolder()
  const dataDir = join(folder.path, 'data')
  const flags = [
    '-c', 'fsync=off', '-c', 'full_page_writes=off', '-c', 'synchronous_commit=off', '-c', 'max_connections=500',
    ...options.flags ?? []
  ]
  const port = await freePort()
  let server = await startPostgres(dataDir, { port, flags })
  return {
    url: server.url,
    dataDir,
    get pid () { return server.pid },
    stop: () => server.stop(),
    async start () { server = await startPostgres(dataDir, { port, flags }) },
    async remove () {
      await server.stop()
      await folder.remove()
    }
  }
}
