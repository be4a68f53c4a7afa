import { sql } from 'drizzle-orm'
import type { Database } from '../plugins/database.js'
import { users } from '../db/schema.js'

/** PostgreSQL is asked about at most so many users in one statement. */
export const maxBatch = 1000

export interface ActiveUser {
  isActive: boolean
  /** The second of the latest login, since the epoch; null where the row has none. */
  lastLogin: number | null
}

type Callback = (error: Error | null, user?: ActiveUser) => void

export type ActiveUsers = ReturnType<typeof activeUsers>

/**
 * The is_active check: one SELECT answers all requests that arrive in the same turn of the event loop.
 * Nothing is cached, and the query for a request starts after the request came, so a change is seen by the next one.
 * A failing query fails its own batch only; how long one may take is bounded by the pool's query timeout.
 * `count` is told of each statement how many users it asked about and how many seconds it took.
 */
export function activeUsers (db: Database, count: (users: number, seconds: number) => void) {
  const query = db
    .select({
      id: users.id,
      isActive: users.isActive,
      lastLogin: sql<number | null>`floor(extract(epoch from ${users.lastLogin}))::float8`
    })
    .from(users)
    .where(sql`${users.id} = ANY(${sql.placeholder('ids')}::int[])`)
    .prepare(db.statementName('active_users'))

  let waiting = new Map<number, Callback[]>()

  /** Never rejects: what goes wrong goes to the callbacks. */
  async function ask (): Promise<void> {
    const batch = waiting
    if (batch.size === 0) return
    waiting = new Map()
    const start = performance.now()
    const { size } = batch
    let rows
    try {
      rows = await query.execute({ ids: [...batch.keys()] })
    } catch (error) {
      for (const callbacks of batch.values()) {
        for (const callback of callbacks) callback(error as Error)
      }
      return
    } finally {
      count(size, (performance.now() - start) / 1000)
    }
    for (const { id, isActive, lastLogin } of rows) {
      const user = { isActive: isActive === true, lastLogin }
      for (const callback of batch.get(id) as Callback[]) callback(null, user)
      batch.delete(id)
    }
    for (const callbacks of batch.values()) {
      for (const callback of callbacks) callback(null)
    }
  }

  /** Looks a user up by id; `callback` gets undefined where there is no row. */
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
