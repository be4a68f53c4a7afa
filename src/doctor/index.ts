import { checkConfiguration } from './configuration.js'
import type { Finding } from './finding.js'
import { checkPostgres } from './postgres.js'
import { checkRedis } from './redis.js'

/**
 * Checks an installation: its configuration, PostgreSQL and Redis (CONTRACT, section 2). Prints one line for each
 * check. Sends no message and changes nothing. Returns the exit code: 1 if there is a problem, otherwise 0.
 */
export async function examine (
  env: NodeJS.ProcessEnv, print: (line: string) => void, clock = Date.now
): Promise<number> {
  const counts = { ok: 0, warning: 0, problem: 0 }
  const report = (findings: Finding[]) => {
    for (const { level, subject, text } of findings) {
      counts[level]++
      print(`${level.padEnd(8)} ${subject}: ${text}`)
    }
  }

  const { findings, config } = checkConfiguration(env)
  report(findings)
  if (config) {
    report(await checkPostgres(config.database, config.phones, clock))
    report(await checkRedis(config.redis))
  }
  print(`${counts.ok} ok, ${counts.warning} warnings, ${counts.problem} problems`)
  return counts.problem > 0 ? 1 : 0
}
