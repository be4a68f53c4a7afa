import { sql } from 'drizzle-orm'
import type { Database } from '../plugins/database.js'
import { users } from '../db/schema.js'

/** PostgreSQL is asked about at most so many users in one statement. */
export const maxBatch = 1000

/** `lastLogin`: the second of an active user's latest login, since the epoch, or null; undefined where there is no active user. */
type Callback = (error: Error | null, lastLogin?: number | null) => void

export type ActiveUsers = ReturnType<typeof activeUsers>

/**
 * The is_active check: one SELECT answers all requests that arrive in the same turn of the event loop.
 * Nothing is cached, and the query for a request starts after the request came, so a change is seen by the next one.
 * A failing query fails its own batch only; how long one may take is bounded by the pool's query timeout.
 * `count` is told of each statement how many users it asked about and how many seconds it took.
 */
export function activeUsers (db: Database, count: (users: number, seconds: number) => void) {
  // One row and one parameter however many users: to read and write one for each would cost more than all the rest.
  const lastLogins = sql<Record<number, number | null> | null>`
    json_object_agg(${users.id}, floor(extract(epoch from ${users.lastLogin}))) FILTER (WHERE ${users.isActive})`
  const query = db.select({ lastLogins }).from(users)
    .where(sql`${users.id} = ANY(${sql.placeholder('ids')}::int[])`).prepare(db.statementName('active_users'))

  let waiting = new Map<number, Callback[]>()

  /** Never rejects: what goes wrong goes to the callbacks. */
  async function ask (): Promise<void> {
    const batch = waiting
    if (batch.size === 0) return
    waiting = new Map()
    const start = performance.now()
    let found: Record<number, number | null>
    try {
      const [row] = await query.execute({ ids: `{${[...batch.keys()].join()}}` })
      found = row?.lastLogins ?? {}
    } catch (error) {
      for (const callbacks of batch.values()) {
        for (const callback of callbacks) callback(error as Error)
      }
      return
    } finally {
      count(batch.size, (performance.now() - start) / 1000)
    }
    // One user a tick: what Node has left to do for an answer it does while all of it is still in the processor's cache.
    const answers = batch.entries()
    const next = () => {
      const { value, done } = answers.next()
      if (done) return
      const [id, callbacks] = value
      for (const callback of callbacks) callback(null, found[id])
      process.nextTick(next)
    }
    next()
  }

  /** Looks a user up by id. */
  return function find (id: number, callback: Callback): void {
    const callbacks = waiting.get(id)
    if (callbacks) {
      callbacks.push(callback)
      return
    }
    if (waiting.size === 0) setImmediate(ask)
    waiting.set(id, [callback])
    if (waiting.size === maxBatch) ask()
  }
}
