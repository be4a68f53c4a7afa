import { startChild, type Child, type Env } from './children.js'
import { endDownTo, openEnds } from './ending.js'
import type { Seeded } from './stores.js'

/** Processes that are measured of each contender, one after the other, and how often each of them has its turn. */
export const rounds = 5
const turns = 4
const turnSeconds = 1
const warmupSeconds = 4
export const connections = 64

/** What one round came to. */
export interface Round { count: number, perSecond: number }
/** Latencies in milliseconds; the share of the time that the load generator was busy. */
export interface LoadRound extends Round { p50: number, p99: number, busy: number }

/** Begins what is measured anew and returns how to run it for some seconds. */
export type Contender<R = Round> = () => Promise<(seconds: number) => Promise<R>>
export type Load = (server: Pick<Child, 'port'>, seconds: number) => Promise<LoadRound>

/** Starts a load generator of signed-in users that ask for `path`. */
export async function startLoad (path: string, { env, users, issuedAt }: Seeded, atOnce = connections): Promise<Load> {
  const load = await startChild('harness/load', { path, secret: env.JWT_SECRET, users, issuedAt })
  return ({ port }, seconds) => load.ask({ port, connections: atOnce, seconds })
}

/** A server under a load. */
export const serving = (load: Load, script: string, env: Env, setup: object = {}): Contender<LoadRound> => async () => {
  const server = await startChild(script, setup, env)
  return (seconds) => load(server, seconds)
}

/** A process that loops over the work itself. */
export const looping = (script: string, env: Env, setup: object): Contender => async () => {
  const child = await startChild(script, setup, env)
  return (seconds) => child.ask({ connections, seconds })
}

/**
 * Runs all contenders in turn, A B A B, a second each: a machine that others share changes its speed within some seconds.
 * Each round has new processes, warmed up: two processes of the very same code differ by some percent for as long as they
 * live. `before` comes before every turn.
 */
export async function inTurn<Name extends string, R extends Round> (contenders: Record<Name, Contender<R>>, before: () => unknown = () => {}) {
  const names = Object.keys(contenders) as Name[]
  const results = Object.fromEntries(names.map((name) => [name, []])) as unknown as Record<Name, R[]>
  for (let round = 0; round < rounds; round++) {
    const open = openEnds()
    const runs = {} as Record<Name, (seconds: number) => Promise<R>>
    for (const name of names) {
      await before()
      runs[name] = await contenders[name]()
      await runs[name](warmupSeconds)
    }
    for (let turn = 0; turn < turns; turn++) {
      for (const name of names) {
        await before()
        results[name].push(await runs[name](turnSeconds))
      }
    }
    await endDownTo(open)
  }
  return results
}

export const rates = (of: Round[]) => of.map(({ perSecond }) => perSecond)
