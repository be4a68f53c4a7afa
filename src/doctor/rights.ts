import { getTableColumns, sql } from 'drizzle-orm'
import { users } from '../db/schema.js'
import type { Database } from '../db/database.js'
import { ok, problem, warning, type Finding } from './finding.js'

const columns = Object.values(getTableColumns(users)).map(({ name }) => name)

/** The rights on `users` that this role lacks. A right on a column counts as much as one on the table. */
const missingOnUsers = sql`
  SELECT privilege, string_agg(attname, ', ' ORDER BY attnum) AS columns, count(*)::int AS count
  FROM pg_attribute CROSS JOIN (VALUES ('SELECT'), ('INSERT'), ('UPDATE')) AS needed (privilege)
  WHERE attrelid = to_regclass('users') AND attname IN (${sql.join(columns.map((name) => sql`${name}`), sql`, `)})
    AND (privilege = 'SELECT' OR attname <> 'id')
    AND (privilege <> 'INSERT' OR attname NOT IN ('full_name', 'profile_image_url'))
    AND NOT has_column_privilege(attrelid, attnum, privilege)
  GROUP BY privilege ORDER BY privilege`

const missingOnTables = sql`
  SELECT privilege, oid::regclass::text AS "table"
  FROM (VALUES ('users', 'DELETE'), ('user_addresses', 'SELECT'), ('user_addresses', 'INSERT'),
    ('user_addresses', 'UPDATE'), ('user_addresses', 'DELETE')) AS needed (name, privilege)
    JOIN pg_class ON pg_class.oid = to_regclass(name)
  WHERE NOT has_table_privilege(pg_class.oid, privilege)
  UNION ALL SELECT 'USAGE', sequence FROM (VALUES ('users'), ('user_addresses')) AS needed (name)
    JOIN pg_attribute ON attrelid = to_regclass(name) AND attname = 'id' AND attidentity = ''
    CROSS JOIN LATERAL (SELECT CASE WHEN attrelid IS NOT NULL
      THEN pg_get_serial_sequence(attrelid::regclass::text, 'id') END) AS owned (sequence)
  WHERE NOT has_sequence_privilege(sequence, 'USAGE')`

/** Whether the role may do what the service does. */
export async function checkRights (db: Database): Promise<Finding[]> {
  const { rows: onUsers } = await db.execute<{ privilege: string, columns: string, count: number }>(missingOnUsers)
  const { rows: onTables } = await db.execute<{ privilege: string, table: string }>(missingOnTables)
  const { rows: [addresses] } = await db.execute<{ exists: boolean }>(
    sql`SELECT to_regclass('user_addresses') IS NOT NULL AS exists`)
  const missing = [
    ...onUsers.map(({ privilege, columns: names }) => `GRANT ${privilege} (${names}) ON users`),
    ...onTables.map(({ privilege, table }) =>
      `GRANT ${privilege} ON ${privilege === 'USAGE' ? `SEQUENCE ${table}` : table}`)
  ]
  const findings = missing.map((grant) =>
    problem('PostgreSQL rights', `${grant} is missing: an owner of the table has to run it`))
  if (findings.length === 0) findings.push(ok('PostgreSQL rights', 'complete'))
  if (!addresses?.exists) {
    findings.push(warning('user_addresses',
      'there is no such table, addresses are unavailable: npm run db:migrate creates it'))
  }
  return findings
}
