import { readDatabase } from './config/database.js'
import { ConfigError, envReader } from './config/env.js'
import { migrate } from './db/migrate.js'
import { explain, fail } from './process/startup-errors.js'

try {
  const env = envReader(process.env)
  const { url, ca } = readDatabase(env)
  if (env.issues.length > 0) throw new ConfigError(env.issues)
  const found = await migrate(url, ca)
  const result = found ? `found the table ${found} and left it as it is` : 'created the table users'
  process.stdout.write(`phone-auth: ${result}; the database is up to date\n`)
} catch (error) {
  fail(...explain(error))
}
