import type { ActiveUsers } from '../../src/users/active.js'
import { setup } from '../harness/child.js'

export { creationTimes } from '../../src/users/active.js'

/** No check: the result is at once that the user is active. */
export function activeUsers (): ActiveUsers {
  const lastLogin = (setup as { issuedAt: number }).issuedAt
  return (_id, callback) => { callback(null, lastLogin) }
}
