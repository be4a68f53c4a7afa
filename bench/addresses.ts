import { startChild } from './harness/children.js'
import { inTurn, ownLoop, startLoad } from './harness/measure.js'
import { usersSeeded, type Stores } from './harness/stores.js'
import { ratio, type Row } from './harness/table.js'

const addressesEach = 5

/** The list of a user's addresses over HTTP beside its SQL alone. */
export async function addresses (stores: Stores): Promise<Row[]> {
  const seeded = await stores.seed(usersSeeded, addressesEach)
  const load = await startLoad('/api/v1/profile/addresses', seeded)
  const service = await startChild('servers/service', {}, seeded.env)
  const bare = await startChild('servers/addresses-sql', { users: seeded.users }, seeded.env)
  const { http, sql } = await inTurn({ http: load(service), sql: ownLoop(bare) })
  return [
    ratio('list of 5 addresses ÷ its bare SQL', '/s', '≥ 0.60', http.map(({ perSecond }) => perSecond), sql.map(({ perSecond }) => perSecond))
  ]
}
