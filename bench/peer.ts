import { startLoad } from './harness/load.js'
import { inTurn, rates, serving } from './harness/measure.js'
import { usersSeeded, type Stores } from './harness/stores.js'
import { ratio, type Row } from './harness/table.js'

/** The authenticated route compared with the same route written by hand on Express. */
export async function peer (stores: Stores): Promise<Row[]> {
  const seeded = await stores.seed(usersSeeded)
  const load = await startLoad('/auth/verify-token', seeded)
  const { ours, theirs } = await inTurn({
    ours: serving(load, 'servers/service', seeded.env),
    theirs: serving(load, 'servers/express', seeded.env)
  })
  return [ratio('guarded ÷ Express 5, jsonwebtoken, pg', '/s', '≥ 4.0', rates(ours), rates(theirs))]
}
