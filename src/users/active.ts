import { sql } from 'drizzle-orm'
import { batched } from '../db/batch.js'
import { users, utcNow } from '../db/schema.js'
import type { Database } from '../db/database.js'

/** PostgreSQL is asked about at most so many users in one statement. */
export const maxBatch = 1000

export type ActiveUsers = ReturnType<typeof activeUsers>

/**
 * Returns the is_active check: it looks up the last_login of an active user by id, in seconds since the epoch and to the
 * microsecond, or null; undefined if there is no active user. The pool's query timeout bounds a statement.
 * `count` learns of each statement how many users it asked about and how many seconds it took.
 */
export function activeUsers (db: Database, count: (users: number, seconds: number) => void) {
  // One row and one parameter however many users: to read and write one for each would cost more than all the rest.
  // date_part returns a float8, which PostgreSQL writes faster than the numeric of extract; a double holds the microseconds.
  const lastLogins = sql<Record<number, number | null> | null>`
    json_object_agg(${users.id}, date_part('epoch', ${users.lastLogin})) FILTER (WHERE ${users.isActive})`
  const query = db.check.select({ lastLogins }).from(users)
    .where(sql`${users.id} = ANY(${sql.placeholder('ids')}::bigint[])`).prepare(db.statementName('active_users'))

  return batched(maxBatch, db.check.$client.options.max, async (ids) => {
    const start = performance.now()
    try {
      const [row] = await query.execute({ ids: `{${ids.join()}}` })
      return row?.lastLogins ?? {}
    } finally {
      count(ids.length, (performance.now() - start) / 1000)
    }
  })
}

/**
 * Returns a lookup of the second in which a user was created, since the epoch, by id: null if it is not known or in the
 * future, undefined if there is no row. The active check does not read it, because most requests do not need it.
 */
export function creationTimes (db: Database) {
  const created = sql<Record<number, number | null> | null>`json_object_agg(${users.id},
    CASE WHEN ${users.createdAt} <= ${utcNow} THEN floor(date_part('epoch', ${users.createdAt})) END)`
  const query = db.check.select({ created }).from(users)
    .where(sql`${users.id} = ANY(${sql.placeholder('ids')}::bigint[])`).prepare(db.statementName('user_creation_times'))
  const find = batched(maxBatch, db.check.$client.options.max, async (ids) => {
    const [row] = await query.execute({ ids: `{${ids.join()}}` })
    return row?.created ?? {}
  })
  return (id: number) => new Promise<number | null | undefined>((resolve, reject) => {
    find(id, (error, created) => error ? reject(error) : resolve(created))
  })
}
