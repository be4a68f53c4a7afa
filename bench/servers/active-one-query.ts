import type { Database } from '../../src/db/database.js'
import type { ActiveUsers } from '../../src/users/active.js'

export { creationTimes } from '../../src/users/active.js'

const text = 'SELECT is_active AS "isActive", floor(extract(epoch FROM last_login))::float8 AS "lastLogin" FROM users WHERE id = $1'

/** The usual form of the check: one prepared query for each request. */
export function activeUsers ({ pool }: Database): ActiveUsers {
  return (id, callback) => {
    pool.query<{ isActive: boolean | null, lastLogin: number | null }>({ name: 'active_user', text, values: [id] })
      .then(({ rows: [user] }) => callback(null, user?.isActive ? user.lastLogin : undefined), callback)
  }
}
