import { startLoad, type LoadRound } from './harness/load.js'
import { inTurn, rates, type Contender } from './harness/measure.js'
import { serviceProgram, startUp } from './harness/programs.js'
import { usersSeeded, type Stores } from './harness/stores.js'
import { ratio, type Row } from './harness/table.js'

/** Each of two workers has to get warm and to know the tokens, with half of the load. */
const warmupTurns = 12

/** What a second worker process brings, on whatever cores the load and the stores leave. */
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
