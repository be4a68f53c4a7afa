import { sql } from 'drizzle-orm'
import { batched } from '../batch.js'
import { users } from '../db/schema.js'
import type { Database } from '../plugins/database.js'

/** PostgreSQL is asked about at most so many users in one statement. */
export const maxBatch = 1000

export type ActiveUsers = ReturnType<typeof activeUsers>

/**
 * The is_active check, by id: the second of an active user's latest login, since the epoch, or null; undefined where there
 * is no active user. How long a statement may take is bounded by the pool's query timeout.
 * `count` is told of each statement how many users it asked about and how many seconds it took.
 */
export function activeUsers (db: Database, count: (users: number, seconds: number) => void) {
  // One row and one parameter however many users: to read and write one for each would cost more than all the rest.
  const lastLogins = sql<Record<number, number | null> | null>`
    json_object_agg(${users.id}, floor(extract(epoch from ${users.lastLogin}))) FILTER (WHERE ${users.isActive})`
  const query = db.select({ lastLogins }).from(users)
    .where(sql`${users.id} = ANY(${sql.placeholder('ids')}::bigint[])`).prepare(db.statementName('active_users'))

  return batched(maxBatch, async (ids) => {
    const start = performance.now()
    try {
      const [row] = await query.execute({ ids: `{${ids.join()}}` })
      return row?.lastLogins ?? {}
    } finally {
      count(ids.length, (performance.now() - start) / 1000)
    }
  })
}
