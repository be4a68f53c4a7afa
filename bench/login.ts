import { Redis } from 'ioredis'
import { startChild } from './harness/children.js'
import { atEnd } from './harness/ending.js'
import { connections, inTurn, looping, rates, type Round } from './harness/measure.js'
import { firstPhone, usersSeeded, type Stores } from './harness/stores.js'
import { ratio, type Row } from './harness/table.js'

/** Full logins of known numbers over HTTP beside what they ask of the stores alone. */
export async function login (stores: Stores): Promise<Row[]> {
  const { env, users } = await stores.seed(usersSeeded)
  const load = await startChild('harness/login-load', { users, firstPhone })
  const redis = new Redis(stores.redisUrl)
  atEnd(() => redis.disconnect())
  const { http, storesOnly } = await inTurn({
    http: async () => {
      const { port } = await startChild('servers/service', { smsPort: load.port }, env)
      return (seconds) => load.ask<Round>({ port, connections, seconds })
    },
    storesOnly: looping('servers/login-stores', env, { users, firstPhone })
  }, () => redis.flushdb()) // or the cooldown of the numbers of the round before would be met
  return [ratio('logins (send, SMS, verify) ÷ stores only', '/s', '≥ 0.45', rates(http), rates(storesOnly))]
}
