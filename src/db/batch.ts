import { setImmediate as turn } from 'node:timers/promises'

/** `found` is undefined if nothing exists under the id. The callback must not throw. */
type Callback<Found> = (error: Error | null, found?: Found) => void

/**
 * While a statement is in flight, the next batch waits until that one is delivered, it holds 32 ids, or 1 ms has
 * passed. While a statement is in flight on every connection, the batch waits until one of these is delivered, for at
 * most 100 ms.
 */
const enoughIds = 32
const waitMs = 1
const busyWaitMs = 100
/**
 * Ids of a batch that are delivered in one turn. If all were, all their clients would send the next request in one
 * turn, and wait together.
 */
const deliveriesPerTurn = 16

/**
 * Combines the lookups of one turn of the event loop into one statement. An id that is looked up twice is in the
 * statement once. Nothing is cached: the statement for a lookup always starts after the lookup. `select` returns what
 * exists under each of at most `max` ids. If `select` fails, only its own batch fails. `connections` is the number of
 * statements that can run at once.
 */
export function batched<Found> (
  max: number, connections: number, select: (ids: number[]) => Promise<Record<number, Found>>
) {
  let waiting = new Map<number, Array<Callback<Found>>>()
  let inFlight = 0
  /** Runs while `waiting` waits for a statement in flight. */
  let wait: NodeJS.Timeout | undefined

  /** Never rejects: errors go to the callbacks. */
  async function run (): Promise<void> {
    clearTimeout(wait)
    wait = undefined
    const batch = waiting
    if (batch.size === 0) return
    waiting = new Map()
    inFlight++
    await deliver(batch)
    inFlight--
    if (wait) run()
  }

  async function deliver (batch: Map<number, Array<Callback<Found>>>): Promise<void> {
    let found: Record<number, Found>
    try {
      found = await select([...batch.keys()])
    } catch (error) {
      for (const callbacks of batch.values()) {
        for (const callback of callbacks) callback(error as Error)
      }
      return
    }
    let delivered = 0
    for (const [id, callbacks] of batch) {
      for (const callback of callbacks) callback(null, found[id])
      if (++delivered % deliveriesPerTurn === 0) await turn()
    }
  }

  function endTurn () {
    const isBusy = inFlight >= connections
    if (inFlight === 0 || (waiting.size >= enoughIds && !isBusy)) run()
    else wait ??= setTimeout(run, isBusy ? busyWaitMs : waitMs)
  }

  /** Looks up one id in the next batch. */
  return function find (id: number, callback: Callback<Found>): void {
    const callbacks = waiting.get(id)
    if (callbacks) {
      callbacks.push(callback)
      return
    }
    if (waiting.size === 0) setImmediate(endTurn)
    waiting.set(id, [callback])
    if (waiting.size === max || (wait && waiting.size === enoughIds && inFlight < connections)) run()
  }
}
