import { existsSync } from 'node:fs'
import pretty from 'pino-pretty'
import { smsSender } from './messages/index.js'
import { loadConfig, type Config } from './config/index.js'
import { migrate } from './db/migrate.js'
import { playground } from './dev/playground.js'
import { startPostgres } from './dev/postgres.js'
import { serve } from './process/serve.js'
import { explain, fail } from './process/startup-errors.js'

const dataDir = '.data/postgres'

/** Before the service listens, a signal has nothing to wait for. The database ends with this process. */
const exit = () => process.exit(0)
const stopSignals = ['SIGINT', 'SIGTERM', 'SIGHUP'] as const
for (const signal of stopSignals) process.once(signal, exit)

/** The text that says where the service listens and what to try next. */
function welcome ({ server: { host }, metrics, redis }: Config, port: number, database = 'DATABASE_URL') {
  // A wildcard is not a destination, and an IPv6 address in a URL has brackets.
  const name = host.replace(/^(?:127\.0\.0\.1|0\.0\.0\.0|::)$/, 'localhost').replace(/.*:.*/, '[$&]')
  const url = `http://${name}:${port}`
  const json = "-H 'content-type: application/json'"
  return `
  phone-auth listens on ${url}
  interface: ${host}, set HOST for another one
  metrics: ${metrics.port ? `http://${name}:${metrics.port}/metrics` : 'none'}
  PostgreSQL: ${database}
  codes: ${redis ? 'REDIS_URL' : 'in memory'}

  Try ${url} in a browser, or
  curl -s ${url}/api/v1/auth/send-verification ${json} -d '{"phone":"+996 555 123 456"}'
  then, with the code that is shown here:
  curl -s ${url}/api/v1/auth/verify-code ${json} -d '{"phone":"+996 555 123 456","verification_code":"······"}'

`
}

try {
  if (existsSync('.env')) process.loadEnvFile('.env')
  // An empty variable counts as unset. No gateway has to notice the end of the process, so the drain takes 0 s.
  const given = Object.fromEntries(Object.entries(process.env).filter(([, value]) => value))
  const env: NodeJS.ProcessEnv = { NODE_ENV: 'development', HOST: '127.0.0.1', DRAIN_SECONDS: '0', ...given }
  const embedded = env.DATABASE_URL || env.DATABASE_URL_FILE ? undefined : await startPostgres(dataDir)
  if (embedded) env.DATABASE_URL = embedded.url
  try {
    const config = loadConfig(env)
    await migrate(config.database.url, config.database.ca)
    const logStream = pretty({ ignore: 'pid,hostname', translateTime: 'HH:MM:ss' })
    const overrides = { logStream, ...!config.isProduction && playground(smsSender(config.provider)) }
    const { port } = await serve(config, overrides, embedded?.stop)
    for (const signal of stopSignals) process.off(signal, exit)
    const database = embedded && `embedded, port ${embedded.port}, data and password in ${dataDir}`
    process.stdout.write(welcome(config, port, database))
  } catch (error) {
    await embedded?.stop()
    throw error
  }
} catch (error) {
  fail(...explain(error))
}
