import { startChild, type Env } from './children.js'
import { endDownTo, openEnds } from './ending.js'
import { connections, type Load, type LoadRound } from './load.js'

/** How many processes of each contender are measured, one after the other, and how many turns each process has. */
export const rounds = 5
const turns = 4
const turnSeconds = 1
const usualWarmupTurns = 6

/** The result of one round. */
export interface Round { count: number, perSecond: number }

/** Starts a contender anew. Returns the function that runs it for some seconds. */
export type Contender<R = Round> = () => Promise<(seconds: number) => Promise<R>>

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

interface Options { before?: () => unknown, warmupTurns?: number }

/**
 * Runs all contenders in turn, A B A B, one second each, because a shared machine changes its speed within seconds.
 * Each round has new processes, because two processes of the same code differ by some percent as long as they live. The
 * first turns warm the processes up and are not counted. A process that is idle for ten seconds cools down again.
 * `before` runs before every turn.
 */
export async function inTurn<Name extends string, R extends Round> (contenders: Record<Name, Contender<R>>, { before = () => {}, warmupTurns = usualWarmupTurns }: Options = {}) {
  const names = Object.keys(contenders) as Name[]
  const results = Object.fromEntries(names.map((name) => [name, []])) as unknown as Record<Name, R[]>
  for (let round = 0; round < rounds; round++) {
    const open = openEnds()
    const runs = {} as Record<Name, (seconds: number) => Promise<R>>
    for (const name of names) runs[name] = await contenders[name]()
    for (let turn = -warmupTurns; turn < turns; turn++) {
      for (const name of names) {
        await before()
        const result = await runs[name](turnSeconds)
        if (turn >= 0) results[name].push(result)
      }
    }
    await endDownTo(open)
  }
  return results
}

export const rates = (of: Round[]) => of.map(({ perSecond }) => perSecond)
