import { setImmediate as turn } from 'node:timers/promises'

/** `found` is undefined where there was nothing under the id. Must not throw. */
type Callback<Found> = (error: Error | null, found?: Found) => void

/**
 * While a statement is in flight, the next one waits until that one is delivered, it holds 32 ids, or 1 ms has passed. While as
 * many are in flight as there are connections, it gathers ids until one of them is delivered, for at most 100 ms.
 */
const enoughIds = 32
const waitMs = 1
const busyWaitMs = 100
/** Answers of a batch that are given in one turn. All in one would make all their clients come back in one, and wait in one. */
const answersATurn = 16

/**
 * Makes one statement of all that is looked up by an id in the same turn of the event loop, an id that is asked for twice
 * included once. Nothing is cached, and the statement for a lookup starts after the lookup came.
 * `select` finds what there is under each of at most `max` ids; where it fails, it fails its own batch only. `connections` is how
 * many statements can run at once.
 */
export function batched<Found> (max: number, connections: number, select: (ids: number[]) => Promise<Record<number, Found>>) {
  let waiting = new Map<number, Array<Callback<Found>>>()
  let underWay = 0
  /** Runs while what is waiting waits for the last answer of a statement. */
  let wait: NodeJS.Timeout | undefined

  /** Never rejects: what goes wrong goes to the callbacks. */
  async function run (): Promise<void> {
    clearTimeout(wait)
    wait = undefined
    const batch = waiting
    if (batch.size === 0) return
    waiting = new Map()
    underWay++
    await answer(batch)
    underWay--
    if (wait) run()
  }

  async function answer (batch: Map<number, Array<Callback<Found>>>): Promise<void> {
    let found: Record<number, Found>
    try {
      found = await select([...batch.keys()])
    } catch (error) {
      for (const callbacks of batch.values()) {
        for (const callback of callbacks) callback(error as Error)
      }
      return
    }
    let given = 0
    for (const [id, callbacks] of batch) {
      for (const callback of callbacks) callback(null, found[id])
      if (++given % answersATurn === 0) await turn()
    }
  }

  function endTurn () {
    const isBusy = underWay >= connections
    if (underWay === 0 || (waiting.size >= enoughIds && !isBusy)) run()
    else wait ??= setTimeout(run, isBusy ? busyWaitMs : waitMs)
  }

  /** Looks one up by its id. */
  return function find (id: number, callback: Callback<Found>): void {
    const callbacks = waiting.get(id)
    if (callbacks) {
      callbacks.push(callback)
      return
    }
    if (waiting.size === 0) setImmediate(endTurn)
    waiting.set(id, [callback])
    if (waiting.size === max || (wait && waiting.size === enoughIds && underWay < connections)) run()
  }
}
