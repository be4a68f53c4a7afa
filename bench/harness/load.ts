import { execFile } from 'node:child_process'
import { writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { promisify } from 'node:util'
import { mint } from '../../test/helpers/forge.js'
import { program, temporaryFolder } from '../../test/helpers/servers.js'
import { endWith, type Child } from './children.js'
import { atEnd } from './ending.js'
import type { Seeded } from './stores.js'

/** Latencies in milliseconds, and the share of time in which the load generator was busy. */
export interface LoadRound { count: number, perSecond: number, p50: number, p99: number, busy: number }
export type Load = (server: Pick<Child, 'port'>, seconds: number) => Promise<LoadRound>

export const connections = 64
const tokens = 64_000
const tokenLifeSeconds = 1800
const run = promisify(execFile)

/** Runs wrk with signed-in users who request `path`, each connection again as soon as it has its response. */
export async function startLoad (path: string, { env, users, issuedAt }: Seeded, atOnce = connections): Promise<Load> {
  const wrk = program(['wrk'], 'wrk')
  const folder = await temporaryFolder()
  atEnd(folder.remove)
  const tokenFile = join(folder.path, 'tokens')
  await writeFile(tokenFile, Array.from({ length: tokens }, () => mint({
    user_id: 1 + Math.floor(Math.random() * users), market: 'kg', iat: issuedAt, exp: issuedAt + tokenLifeSeconds
  }, env.JWT_SECRET as string)).join('\n'))

  return async ({ port }, seconds) => {
    const running = run(wrk, ['-t', '1', '-c', String(atOnce), '-d', `${seconds}s`, '-s', 'bench/harness/load.lua', `http://127.0.0.1:${port}${path}`, tokenFile])
    endWith(running.child)
    const { stdout } = await running
    const { count, microseconds, p50, p99, busySeconds, errors } = JSON.parse(stdout.slice(stdout.lastIndexOf('{')))
    if (errors > 0) throw new Error(`${errors} of ${count} requests failed`)
    return { count, perSecond: count * 1e6 / microseconds, p50: p50 / 1000, p99: p99 / 1000, busy: busySeconds * 1e6 / microseconds }
  }
}
