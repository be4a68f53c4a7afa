import type { FastifyPluginAsyncTypebox } from '@fastify/type-provider-typebox'
import { Type } from 'typebox'
import { users } from '../db/schema.js'
import type { OutageLog } from '../logger.js'

const State = Type.Unsafe<'up' | 'down'>({ type: 'string', enum: ['up', 'down'] })
const ReadySchema = Type.Object({
  status: Type.Unsafe<'ok' | 'degraded' | 'unavailable'>({ type: 'string', enum: ['ok', 'degraded', 'unavailable'] }),
  checks: Type.Object({ database: State, redis: State })
})

/** Probes for an orchestrator: the process lives; it can serve. */
export const healthRoutes: FastifyPluginAsyncTypebox = async (app) => {
  // Asks for the table itself: a database without users cannot sign anybody in.
  const probe = app.db.select({ id: users.id }).from(users).limit(0).prepare(app.db.statementName('ready'))
  const state = (check: Promise<unknown>, outage: OutageLog) => check.then(
    () => { outage.up(); return 'up' as const },
    (error: unknown) => { outage.down(error); return 'down' as const })

  const check = async () => {
    const [database, redis] = await Promise.all([
      state(probe.execute(), app.databaseOutage),
      app.redis ? state(app.redis.ping(), app.redisOutage) : 'up' as const
    ])
    return { database, redis }
  }

  app.get('/live', { schema: { response: { 200: Type.Object({ status: Type.Literal('ok') }) } } }, () => ({ status: 'ok' as const }))

  app.get('/ready', { schema: { response: { 200: ReadySchema, 503: ReadySchema } } }, async (_request, reply) => {
    const checks = await check()
    const status = app.isDraining() || checks.database === 'down' ? 'unavailable' : checks.redis === 'down' ? 'degraded' : 'ok'
    return reply.code(status === 'unavailable' ? 503 : 200).header('cache-control', 'no-store').send({ status, checks })
  })

  // A dependency that is missing at the start is told before the first request meets it.
  app.addHook('onReady', async () => { await check() })
}
