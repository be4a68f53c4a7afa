import { startChild } from './harness/children.js'
import { startLoad, type LoadRound } from './harness/load.js'
import { inTurn, rates, serving, type Contender } from './harness/measure.js'
import { usersSeeded, type Stores } from './harness/stores.js'
import { figure, ratio, type Row } from './harness/table.js'

/** The authenticated route compared with the same response without a check, or with another check. */
export async function guard (stores: Stores): Promise<Row[]> {
  const seeded = await stores.seed(usersSeeded)
  const { env, issuedAt } = seeded
  const load = await startLoad('/auth/verify-token', seeded)

  const statementsEach: number[] = []
  const guarded: Contender<LoadRound> = async () => {
    const server = await startChild('servers/service', {}, env)
    const statements = async () => (await server.ask<{ statements: number }>({})).statements
    return async (seconds) => {
      const before = await statements()
      const round = await load(server, seconds)
      statementsEach.push((await statements() - before) / round.count)
      return round
    }
  }
  const runs = await inTurn({
    guarded,
    plain: serving(load, 'servers/plain-jwt', env),
    unchecked: serving(load, 'servers/service', env, { activeUsers: 'active-unchecked', issuedAt }),
    oneQuery: serving(load, 'servers/service', env, { activeUsers: 'active-one-query' })
  })
  return [
    ratio('guarded ÷ plain jwtVerify, no check', '/s', '≥ 1.00', rates(runs.guarded), rates(runs.plain)),
    ratio('guarded ÷ own hook without the check', '/s', '≥ 0.90', rates(runs.guarded), rates(runs.unchecked)),
    ratio('guarded ÷ one prepared query a request', '/s', '≥ 1.7', rates(runs.guarded), rates(runs.oneQuery)),
    figure('SQL statements a guarded request', '', '≤ 0.1', statementsEach),
    // Near 1 the bench would measure the load generator.
    figure('share of the time the load was busy, plain', '', '< 1', runs.plain.map(({ busy }) => busy))
  ]
}
