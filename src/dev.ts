import { existsSync } from 'node:fs'
import pretty from 'pino-pretty'
import { smsSender } from './auth/sms/index.js'
import { loadConfig } from './config.js'
import { migrate } from './db/migrate.js'
import { playground } from './dev-playground.js'
import { startPostgres } from './dev-postgres.js'
import { serve } from './serve.js'
import { explain, fail } from './start-errors.js'

const dataDir = '.data/postgres'

/** Before the service listens there is nothing to finish; the database ends along with this process. */
const leave = () => process.exit(0)
process.once('SIGINT', leave).once('SIGTERM', leave)

try {
  if (existsSync('.env')) process.loadEnvFile('.env')
  // No gateway has to notice that it ends.
  const env: NodeJS.ProcessEnv = { NODE_ENV: 'development', DRAIN_SECONDS: '0', ...process.env }
  const embedded = env.DATABASE_URL ? undefined : await startPostgres(dataDir, { detached: true })
  if (embedded) env.DATABASE_URL = embedded.url
  try {
    const config = loadConfig(env)
    await migrate(config.databaseUrl)
    const logStream = pretty({ ignore: 'pid,hostname', translateTime: 'HH:MM:ss' })
    const { port } = await serve(config, { logStream, ...!config.isProduction && playground(smsSender(config)) }, embedded?.stop)
    process.off('SIGINT', leave).off('SIGTERM', leave)
    process.stdout.write(`
  phone-auth listens on http://localhost:${port}
  PostgreSQL: ${embedded ? `embedded, data in ${dataDir}` : 'DATABASE_URL'}   codes: ${config.redisUrl ? 'REDIS_URL' : 'in memory'}

  Try http://localhost:${port} in a browser, or
  curl -s localhost:${port}/api/v1/auth/send-verification -H 'content-type: application/json' -d '{"phone":"+996 555 123 456"}'
  then, with the code that is shown here:
  curl -s localhost:${port}/api/v1/auth/verify-code -H 'content-type: application/json' -d '{"phone":"+996 555 123 456","verification_code":"······"}'

`)
  } catch (error) {
    await embedded?.stop()
    throw error
  }
} catch (error) {
  fail(...explain(error))
}
