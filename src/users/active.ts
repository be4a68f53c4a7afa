import { sql } from 'drizzle-orm'
import { batched } from '../db/batch.js'
import { users, utcNow } from '../db/schema.js'
import type { Database } from '../db/database.js'

/** Most users that one statement looks up. */
export const maxBatch = 1000

export type ActiveUsers = ReturnType<typeof activeUsers>

/**
 * Returns the active check. It looks up the last_login of an active user by id: seconds since the epoch with
 * microseconds, null for a user without last_login, undefined without an active user. The query timeout of the pool
 * bounds each statement. `count` gets the number of users and the duration of each statement, in seconds.
 */
export function activeUsers (db: Database, count: (users: number, seconds: number) => void) {
  // One row and one parameter for all users: a row and a parameter per user would cost more than everything else.
  // date_part returns float8, which PostgreSQL writes faster than the numeric of extract and which holds microseconds.
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
 * Returns a lookup of created_at by user id: whole seconds since the epoch, null if created_at is NULL or in the
 * future, undefined without a row. The active check does not read created_at, because most requests do not need it.
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
