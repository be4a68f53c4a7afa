import { startLoad } from './harness/load.js'
import { inTurn, looping, rates, serving, type Round } from './harness/measure.js'
import { usersSeeded, type Stores } from './harness/stores.js'
import { ratio, type Row } from './harness/table.js'

const addressesEach = 5

/** The list of a user's addresses over HTTP, compared with its SQL alone. */
export async function addresses (stores: Stores): Promise<Row[]> {
  const seeded = await stores.seed(usersSeeded, addressesEach)
  const { env, users } = seeded
  const load = await startLoad('/api/v1/profile/addresses', seeded)
  const { http, sql } = await inTurn<'http' | 'sql', Round>({
    http: serving(load, 'servers/service', env),
    sql: looping('servers/addresses-sql', env, { users })
  })
  return [ratio('list of 5 addresses ÷ its bare SQL', '/s', '≥ 0.60', rates(http), rates(sql))]
}
