import type { FastifyPluginAsyncTypebox } from '@fastify/type-provider-typebox'
import { getTableColumns, sql } from 'drizzle-orm'
import { Type } from 'typebox'
import { answer } from '../http/responses.js'
import { users } from '../db/schema.js'
import { shapeWatch } from '../db/shape-watch.js'
import type { OutageLog } from '../monitoring/outage-log.js'
import { noStore } from '../http/no-store.js'
import { openOneOf } from '../http/schemas.js'

const LiveSchema = Type.Object({ status: openOneOf(['ok'], 'The process responds.') }, { title: 'Liveness' })
const ReadySchema = Type.Object({
  status: openOneOf(['ok', 'degraded', 'unavailable'], 'Whether the service serves all, some or none of its routes.'),
  checks: Type.Object({
    database: openOneOf(['up', 'down'], 'PostgreSQL.'),
    redis: openOneOf(['up', 'down'], 'Redis.')
  }, { title: 'ReadinessChecks', description: 'Each store.' })
}, { title: 'Readiness' })

const tags = ['health']
const liveSchema = {
  operationId: 'getLive',
  summary: 'Whether the process lives',
  description: 'It says nothing of PostgreSQL and Redis: an orchestrator restarts a process that does not respond.',
  tags,
  response: { 200: answer(LiveSchema, 'It can answer.', { status: 'ok' }) }
}
const readySchema = {
  operationId: 'getReady',
  summary: 'Whether the service can serve',
  description: 'Without Redis it is degraded: guarded requests go on, nobody can sign in or out.',
  tags,
  response: {
    200: answer(ReadySchema, 'It serves.', { status: 'ok', checks: { database: 'up', redis: 'up' } }),
    503: answer(ReadySchema, 'PostgreSQL is away.', { status: 'unavailable', checks: { database: 'down', redis: 'up' } })
  }
}

/** Clocks that differ by more are told, in milliseconds: the one issues tokens, the other checks them. */
const maxClockDifferenceMs = 5000

interface Options {
  /** Milliseconds since the epoch. */
  clock: () => number
}

/** Probes for an orchestrator: the process lives; it can serve. */
export const healthRoutes: FastifyPluginAsyncTypebox<Options> = async (app, { clock }) => {
  // Reads every column that the service needs: without one of them, or the right to it, nobody can sign in. On the connections
  // of the active check: the load of one user cannot keep them.
  const columns = sql.join(Object.values(getTableColumns(users)).map((column) => sql`${column}`), sql`, `)
  const probe = sql`SELECT extract(epoch FROM clock_timestamp())::float8 * 1000 AS now,
    EXISTS (SELECT ${columns} FROM ${users} WHERE ${users.id} = 0)`
  const checkShape = shapeWatch(app.db.check, app.log)
  let isDifferenceTold = false

  async function checkDatabase () {
    await checkShape()
    const earliest = clock()
    const { rows: [row] } = await app.db.check.execute<{ now: number }>(probe)
    const { now } = row as { now: number }
    const differenceMs = Math.max(earliest - now, now - clock(), 0)
    if (differenceMs > maxClockDifferenceMs && !isDifferenceTold) {
      app.log.warn({ event: 'clock_difference', seconds: Math.round(differenceMs / 1000) },
        'the clocks of this process and of PostgreSQL differ: run NTP on both hosts')
    }
    isDifferenceTold = differenceMs > maxClockDifferenceMs
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
    const status = app.isDraining() || checks.database === 'down' ? 'unavailable' : checks.redis === 'down' ? 'degraded' : 'ok'
    return reply.code(status === 'unavailable' ? 503 : 200).send({ status, checks })
  })

  // A dependency that is missing at the start is told before the first request meets it.
  app.addHook('onReady', async () => { await check() })
}
