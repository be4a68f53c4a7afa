import { ConfigError, envReader } from './config/env.js'
import { readDatabase } from './config/stores.js'
import { migrate } from './db/migrate.js'
import { explain, fail } from './process/startup-errors.js'

try {
  const issues: string[] = []
  const database = readDatabase(envReader(process.env, issues), issues)
  if (issues.length > 0) throw new ConfigError(issues)
  const found = await migrate(database.databaseUrl, database.databaseCa)
  const result = found ? `found the table ${found} and left it as it is` : 'created the table users'
  process.stdout.write(`phone-auth: ${result}; the database is up to date\n`)
} catch (error) {
  fail(...explain(error))
}
