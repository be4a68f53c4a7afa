import type { FastifyPluginAsyncTypebox } from '@fastify/type-provider-typebox'
import { getTableColumns, sql } from 'drizzle-orm'
import { Type } from 'typebox'
import { responseOf } from '../http/responses.js'
import { users } from '../db/schema.js'
import { shapeWatch } from '../db/shape-watch.js'
import type { OutageLog } from '../monitoring/outage-log.js'
import { noStore } from '../http/no-store.js'
import { openOneOf } from '../http/schemas.js'

const LiveSchema = Type.Object({ status: openOneOf(['ok'], 'The process responds.') }, { title: 'Liveness' })
const ReadySchema = Type.Object({
  status: openOneOf(['ok', 'degraded', 'unavailable'], 'Whether all, some or none of the routes work.'),
  checks: Type.Object({
    database: openOneOf(['up', 'down'], 'PostgreSQL.'),
    redis: openOneOf(['up', 'down'], 'Redis.')
  }, { title: 'ReadinessChecks', description: 'The state of each store.' })
}, { title: 'Readiness' })

const tags = ['health']
const liveSchema = {
  operationId: 'getLive',
  summary: 'Check that the process responds',
  description: 'Does not check PostgreSQL and Redis. An orchestrator restarts a process that does not respond.',
  tags,
  response: { 200: responseOf(LiveSchema, 'The process responds.', { status: 'ok' }) }
}
const readySchema = {
  operationId: 'getReady',
  summary: 'Check that the service can serve requests',
  description: 'Without Redis the service is degraded: authenticated routes work, but nobody can sign in or out.',
  tags,
  response: {
    200: responseOf(ReadySchema, 'The service serves all or some of its routes.',
      { status: 'ok', checks: { database: 'up', redis: 'up' } }),
    503: responseOf(ReadySchema, 'PostgreSQL is unavailable, or the process drains.',
      { status: 'unavailable', checks: { database: 'down', redis: 'up' } })
  }
}

/** A larger difference is logged: the clock of PostgreSQL dates a session, that of the process checks its expiry. */
const maxClockDifferenceMs = 5000

interface Options {
  /** Milliseconds since the epoch. */
  clock: () => number
}

/** Probes for an orchestrator: liveness and readiness. */
export const healthRoutes: FastifyPluginAsyncTypebox<Options> = async (app, { clock }) => {
  // The probe reads every column that the service needs: if one is missing or not readable, nobody can sign in. It runs
  // on the connections of the active check, which the load of one user cannot occupy.
  const columns = sql.join(Object.values(getTableColumns(users)).map((column) => sql`${column}`), sql`, `)
  const probe = sql`SELECT extract(epoch FROM clock_timestamp())::float8 * 1000 AS now,
    EXISTS (SELECT ${columns} FROM ${users} WHERE ${users.id} = 0)`
  const checkShape = shapeWatch(app.db.check, app.log)
  let isDifferenceLogged = false

  async function checkDatabase () {
    await checkShape()
    const earliest = clock()
    const { rows: [row] } = await app.db.check.execute<{ now: number }>(probe)
    const { now } = row as { now: number }
    const differenceMs = Math.max(earliest - now, now - clock(), 0)
    if (differenceMs > maxClockDifferenceMs && !isDifferenceLogged) {
      app.log.warn({ event: 'clock_difference', seconds: Math.round(differenceMs / 1000) },
        'the clocks of this process and of PostgreSQL differ: run NTP on both hosts')
    }
    isDifferenceLogged = differenceMs > maxClockDifferenceMs
  }

  const state = (check: Promise<unknown>, outage: OutageLog) => check.then(
    () => { outage.up(); return 'up' as const },
    (error: unknown) => { outage.down(error); return 'down' as const })

  const check = async () => {
    const [database, redis] = await Promise.all([
      state(checkDatabase(), app.databaseOutage),
      state(app.probeRedis(), app.redisOutage)
    ])
    return { database, redis }
  }

  app.addHook('onRequest', noStore)

  app.get('/live', { schema: liveSchema }, (_request, reply) => {
    reply.send({ status: 'ok' })
  })

  app.get('/ready', { schema: readySchema }, async (_request, reply) => {
    const checks = await check()
    const isUnavailable = app.isDraining() || checks.database === 'down'
    const status = isUnavailable ? 'unavailable' : checks.redis === 'down' ? 'degraded' : 'ok'
    return reply.code(isUnavailable ? 503 : 200).send({ status, checks })
  })

  // An outage at the start is logged before the first request meets it.
  app.addHook('onReady', async () => { await check() })
}
