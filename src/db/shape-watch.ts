import type { FastifyBaseLogger } from 'fastify'
import { usersShape, WrongShape, type Queryable } from './users-shape.js'

/**
 * How long a good shape is not checked again, in milliseconds: the check takes about ten catalog queries, more work
 * than the probe itself.
 */
const goodForMs = 5000

/**
 * Returns the check that throws WrongShape while the service cannot work with the table `users`. Simultaneous calls
 * share one check. Each issue is logged once, and again if it returns after it was solved.
 */
export function shapeWatch (db: Queryable, log: FastifyBaseLogger) {
  let logged = new Set<string>()
  let goodUntil = 0
  let running: Promise<void> | undefined

  async function check () {
    const { issues } = await usersShape(db)
    for (const issue of issues) if (!logged.has(issue)) log.error({ event: 'users_shape' }, `not ready, ${issue}`)
    if (issues.length === 0 && logged.size > 0) {
      log.info({ event: 'users_shape' }, 'the table users has the shape that the service needs')
    }
    logged = new Set(issues)
    if (issues.length > 0) throw new WrongShape(issues)
    goodUntil = performance.now() + goodForMs
  }

  return async () => {
    if (performance.now() < goodUntil) return
    running ??= check().finally(() => { running = undefined })
    await running
  }
}
