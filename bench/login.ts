import { Redis } from 'ioredis'
import { startChild } from './harness/children.js'
import { atEnd } from './harness/ending.js'
import { connections } from './harness/load.js'
import { inTurn, looping, rates, type Round } from './harness/measure.js'
import { firstPhone, usersSeeded, type Stores } from './harness/stores.js'
import { figure, ratio, type Row } from './harness/table.js'

/** Full logins of known numbers over HTTP, compared with their statements and commands alone. */
export async function login (stores: Stores): Promise<Row[]> {
  const { env, users } = await stores.seed(usersSeeded)
  const load = await startChild('harness/login-load', { users, firstPhone })
  const redis = new Redis(stores.redisUrl)
  atEnd(() => redis.disconnect())

  const scripts = async () => Number(/cmdstat_evalsha:calls=(\d+)/.exec(await redis.info('commandstats'))?.[1] ?? 0)
  const statementsEach: number[] = []
  const scriptsEach: number[] = []
  const { http, storesOnly } = await inTurn({
    http: async () => {
      const server = await startChild('servers/service', { smsPort: load.port }, env)
      const asked = async () => [(await server.ask<{ statements: number }>({})).statements, await scripts()] as const
      return async (seconds) => {
        const [statementsBefore, scriptsBefore] = await asked()
        const round = await load.ask<Round>({ port: server.port, connections, seconds })
        const [statements, scriptsRun] = await asked()
        statementsEach.push((statements - statementsBefore) / round.count)
        scriptsEach.push((scriptsRun - scriptsBefore) / round.count)
        return round
      }
    },
    storesOnly: looping('servers/login-stores', env, { users, firstPhone })
  }, { before: () => redis.flushdb() }) // ends the cooldown of the numbers of the previous round
  return [
    ratio('logins (send, SMS, verify) ÷ stores only', '/s', '≥ 0.45', rates(http), rates(storesOnly)),
    figure('SQL statements a login', '', '', statementsEach),
    figure('Redis scripts a login', '', '', scriptsEach)
  ]
}
