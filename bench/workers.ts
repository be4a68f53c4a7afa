import { startLoad, type LoadRound } from './harness/load.js'
import { inTurn, rates, type Contender } from './harness/measure.js'
import { serviceProgram, startUp } from './harness/programs.js'
import { usersSeeded, type Stores } from './harness/stores.js'
import { ratio, type Row } from './harness/table.js'

/** Each of the two workers must warm up and fill its token cache, with half of the load. */
const warmupTurns = 12

/** The gain of a second worker process, on the cores that the load and the stores leave free. */
export async function workers (stores: Stores): Promise<Row[]> {
  const seeded = await stores.seed(usersSeeded)
  const load = await startLoad('/auth/verify-token', seeded)
  const withWorkers = (count: number): Contender<LoadRound> => async () => {
    const server = await startUp(serviceProgram({ ...seeded.env, WEB_CONCURRENCY: String(count) }))
    return (seconds) => load(server, seconds)
  }
  const { two, one } = await inTurn({ two: withWorkers(2), one: withWorkers(1) }, { warmupTurns })
  return [ratio('guarded, 2 workers ÷ 1', '/s', '> 1', rates(two), rates(one))]
}
