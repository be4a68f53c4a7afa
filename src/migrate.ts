import { ConfigError, envReader } from './config/env.js'
import { readDatabase } from './config/stores.js'
import { migrate } from './db/migrate.js'
import { explain, fail } from './process/startup-errors.js'

try {
  const problems: string[] = []
  const database = readDatabase(envReader(process.env, problems), problems)
  if (problems.length > 0) throw new ConfigError(problems)
  const found = await migrate(database.databaseUrl, database.databaseCa)
  process.stdout.write(`phone-auth: ${found ? `found the table ${found} and left it as it is` : 'created the table users'}; the database is up to date\n`)
} catch (error) {
  fail(...explain(error))
}
