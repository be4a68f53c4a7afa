import { startChild, type Env } from './children.js'
import { endDownTo, openEnds } from './ending.js'
import { connections, type Load, type LoadRound } from './load.js'

/** Processes that are measured of each contender, one after the other, and how often each of them has its turn. */
export const rounds = 5
const turns = 4
const turnSeconds = 1
const usualWarmupTurns = 6

/** What one round came to. */
export interface Round { count: number, perSecond: number }

/** Begins what is measured anew and returns how to run it for some seconds. */
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
 * Runs all contenders in turn, A B A B, a second each: a machine that others share changes its speed within some seconds.
 * Each round has new processes, as two of the very same code differ by some percent for as long as they live. Their first
 * turns, which are not counted, warm them up; one that then had nothing to do for ten seconds would be cold again.
 * `before` comes before every turn.
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
