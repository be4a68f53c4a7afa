import { startChild, type Child } from './children.js'
import type { Seeded } from './stores.js'

export const rounds = 5
const roundSeconds = 4
const warmupSeconds = 2
export const connections = 64

/** What one round came to. */
export interface Round { count: number, perSecond: number }
/** Latencies in milliseconds; the share of the time that the load generator was busy. */
export interface LoadRound extends Round { p50: number, p99: number, busy: number }
export type Contender<R = Round> = (seconds: number) => Promise<R>

/** Starts a load generator; it makes a contender of each server. */
export async function startLoad (path: string, { env, users, issuedAt }: Seeded, atOnce = connections) {
  const load = await startChild('harness/load', { path, secret: env.JWT_SECRET, users, issuedAt })
  return (server: Pick<Child, 'port'>): Contender<LoadRound> => (seconds) => load.ask({ port: server.port, connections: atOnce, seconds })
}

/** A contender that runs a loop of its own. */
export const ownLoop = (child: Child): Contender => (seconds) => child.ask({ connections, seconds })

/** Runs all contenders in turn, A B A B, after a warm-up of each; `before` comes before every round. */
export async function inTurn<Name extends string, R extends Round> (contenders: Record<Name, Contender<R>>, before: () => Promise<unknown> = async () => {}) {
  const all = Object.entries(contenders) as Array<[Name, Contender<R>]>
  const results = Object.fromEntries(all.map(([name]) => [name, []])) as unknown as Record<Name, R[]>
  for (let round = 0; round <= rounds; round++) {
    for (const [name, run] of all) {
      await before()
      const result = await run(round === 0 ? warmupSeconds : roundSeconds)
      if (round > 0) results[name].push(result)
    }
  }
  return results
}
