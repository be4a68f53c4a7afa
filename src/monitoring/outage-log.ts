import type { FastifyBaseLogger } from 'fastify'

export type OutageLog = ReturnType<typeof outageLog>

/**
 * Logs an outage of a dependency once, and its end once, however often either is reported. `describe` returns what is
 * wrong, as the end of a sentence; each new description within one outage is logged, too.
 */
export function outageLog (
  log: FastifyBaseLogger, dependency: string, describe: (error: unknown) => string = () => 'does not respond'
) {
  const logged = new Set<string>()
  let cause: unknown
  return {
    down (err: unknown) {
      cause = err
      const what = describe(err)
      if (logged.has(what)) return
      logged.add(what)
      log.error({ event: 'dependency_down', dependency, err }, `${dependency} ${what}`)
    },
    isUp: () => logged.size === 0,
    /** The last error of the outage. */
    cause: () => cause,
    up () {
      if (logged.size > 0) log.info({ event: 'dependency_up', dependency }, `${dependency} responds again`)
      logged.clear()
    }
  }
}
