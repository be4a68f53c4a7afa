import { Redis } from 'ioredis'
import { startChild } from './harness/children.js'
import { atEnd } from './harness/ending.js'
import { connections, inTurn, ownLoop } from './harness/measure.js'
import { firstPhone, usersSeeded, type Stores } from './harness/stores.js'
import { ratio, type Row } from './harness/table.js'

/** Full logins of known numbers over HTTP beside what they ask of the stores alone. */
export async function login (stores: Stores): Promise<Row[]> {
  const { env, users } = await stores.seed(usersSeeded)
  const load = await startChild('harness/login-load', { users, firstPhone })
  const service = await startChild('servers/service', { smsPort: load.port }, env)
  const bare = await startChild('servers/login-stores', { users, firstPhone }, env)
  const redis = new Redis(stores.redisUrl)
  atEnd(() => redis.disconnect())
  const { http, storesOnly } = await inTurn({
    http: (seconds) => load.ask({ port: service.port, connections, seconds }),
    storesOnly: ownLoop(bare)
  }, () => redis.flushdb()) // or the cooldown of the numbers of the round before would be met
  return [
    ratio('logins (send, SMS, verify) ÷ stores only', '/s', '≥ 0.45', http.map(({ perSecond }) => perSecond), storesOnly.map(({ perSecond }) => perSecond))
  ]
}
