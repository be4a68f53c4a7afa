import { migrate } from './db/migrate.js'
import { explain, fail } from './start-errors.js'

try {
  const url = process.env.DATABASE_URL
  if (!url || !/^postgres(ql)?:\/\//.test(url)) throw new Error('DATABASE_URL must be a URL that starts with postgres://')
  const found = await migrate(url)
  process.stdout.write(`phone-auth: ${found ? `found the table ${found} and left it as it is` : 'created the table users'}; the database is up to date\n`)
} catch (error) {
  fail(...explain(error))
}
