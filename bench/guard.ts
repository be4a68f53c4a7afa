import { startChild } from './harness/children.js'
import { inTurn, startLoad } from './harness/measure.js'
import { usersSeeded, type Stores } from './harness/stores.js'
import { figure, ratio, type Row } from './harness/table.js'

/** The guarded route beside the same reply with less, no, or another check. */
export async function guard (stores: Stores): Promise<Row[]> {
  const seeded = await stores.seed(usersSeeded)
  const { env, issuedAt } = seeded
  const load = await startLoad('/auth/verify-token', seeded)
  const service = await startChild('servers/service', {}, env)
  const plain = await startChild('servers/plain-jwt', {}, env)
  const unchecked = await startChild('servers/service', { activeUsers: 'active-unchecked', issuedAt }, env)
  const oneQuery = await startChild('servers/service', { activeUsers: 'active-one-query' }, env)

  let statements = 0
  let requests = 0
  const runs = await inTurn({
    guarded: async (seconds) => {
      const before = await service.ask<{ statements: number }>({})
      const round = await load(service)(seconds)
      statements += (await service.ask<{ statements: number }>({})).statements - before.statements
      requests += round.count
      return round
    },
    plain: load(plain),
    unchecked: load(unchecked),
    oneQuery: load(oneQuery)
  })
  const rate = (name: keyof typeof runs) => runs[name].map(({ perSecond }) => perSecond)
  return [
    ratio('guarded ÷ plain jwtVerify, no check', '/s', '≥ 1.00', rate('guarded'), rate('plain')),
    ratio('guarded ÷ own hook without the check', '/s', '≥ 0.90', rate('guarded'), rate('unchecked')),
    ratio('guarded ÷ one prepared query a request', '/s', '≥ 1.7', rate('guarded'), rate('oneQuery')),
    figure('SQL statements a guarded request', '', '≤ 0.1', [statements / requests]),
    // Near 1 it would be the load that is measured.
    figure('share of the time the load was busy, plain', '', '< 1', runs.plain.map(({ busy }) => busy))
  ]
}
