import { fileURLToPath } from 'node:url'
import { getTableColumns, sql } from 'drizzle-orm'
import { readMigrationFiles } from 'drizzle-orm/migrator'
import { drizzle } from 'drizzle-orm/node-postgres'
import pg from 'pg'
import type { Transaction } from './database.js'
import { userAddresses } from './schema.js'
import { otherUsersTables, searchPathAdvice, usersShape, WrongShape } from './users-shape.js'

const migrationsFolder = fileURLToPath(new URL('../../drizzle', import.meta.url))
/** The key of the advisory lock, which no other program locks: "phone" in ASCII. */
const lockKey = 0x70686f6e65
const connectTimeoutMs = 5000

/** The name that PostgreSQL's format_type returns for a type that Drizzle declares. */
const typeName = (declared: string) => declared
  .replace('serial', 'integer')
  .replace('varchar', 'character varying')
  .replace('timestamp', 'timestamp without time zone')

interface Column extends Record<string, unknown> {
  name: string
  type: string
  isNotNull: boolean
  isFilled: boolean
  cascades: boolean
}

/** The columns of a table in the database, by name; empty if there is no such table. */
async function columnsOf (tx: Transaction, name: string) {
  const { rows } = await tx.execute<Column>(sql`
    SELECT attname AS name, format_type(atttypid, atttypmod) AS type, attnotnull AS "isNotNull",
      atthasdef OR attidentity <> '' AS "isFilled",
      EXISTS (SELECT FROM pg_constraint WHERE conrelid = attrelid AND conkey = ARRAY[attnum]
        AND confrelid = to_regclass('users') AND confdeltype = 'c') AS cascades
    FROM pg_attribute WHERE attrelid = to_regclass(${name}) AND attnum > 0 AND NOT attisdropped`)
  return new Map(rows.map((row) => [row.name, row]))
}

/**
 * Throws if an existing table does not fit, with one line for each issue. Returns the name of the existing users table.
 */
async function checkTables (tx: Transaction) {
  const others = await otherUsersTables(tx)
  const { table, issues } = await usersShape(tx)
  if (!table && others.length > 0) {
    throw new WrongShape([`no table users was created, as ${searchPathAdvice(others)}; nothing was changed`])
  }
  if (table && issues.length > 0) throw new WrongShape(issues.map((issue) => `${issue}; nothing was changed`))
  await besideUsers(tx)
  await checkAddresses(tx)
  return table
}

/** Throws if user_addresses has another shape. */
async function checkAddresses (tx: Transaction) {
  const addresses = await columnsOf(tx, 'user_addresses')
  if (addresses.size === 0) return
  const expected = Object.values(getTableColumns(userAddresses))
    .map((column) => ({ name: column.name, type: typeName(column.getSQLType()), isNotNull: column.notNull }))
  const fits = (name: string, found: string | undefined, type: string) =>
    found === type || (name === 'user_id' && found === 'bigint')
  const other = expected
    .filter(({ name, type, isNotNull }) =>
      !fits(name, addresses.get(name)?.type, type) || addresses.get(name)?.isNotNull !== isNotNull)
    .map(({ name }) => name)
  if (!addresses.get('id')?.isFilled) other.push('id')
  if (!addresses.get('user_id')?.cascades) other.push('user_id')
  // Additional optional columns do no harm.
  for (const { name, isNotNull, isFilled } of addresses.values()) {
    if (isNotNull && !isFilled && !expected.some((column) => column.name === name)) other.push(name)
  }
  if (other.length > 0) {
    const names = [...new Set(other)].join(', ')
    throw new Error(`a table user_addresses of another shape already exists (${names}): ` +
      'rename it and run this again; nothing was changed')
  }
}

/** Creates new tables in the schema of an existing users table, whichever schema of the search_path that is. */
const besideUsers = (tx: Transaction) => tx.execute(sql`
  SELECT set_config('search_path', quote_ident(nspname), true)
  FROM pg_class JOIN pg_namespace ON pg_namespace.oid = relnamespace
  WHERE pg_class.oid = to_regclass('users')`)

/**
 * Applies the migrations that the journal lacks, like Drizzle's migrator, but in the transaction that holds the lock.
 */
async function applyMigrations (tx: Transaction) {
  await tx.execute(sql`CREATE SCHEMA IF NOT EXISTS drizzle`)
  await tx.execute(sql`CREATE TABLE IF NOT EXISTS
    drizzle.__drizzle_migrations (id serial PRIMARY KEY, hash text NOT NULL, created_at bigint)`)
  const { rows } = await tx.execute<{ time: string }>(sql`SELECT created_at AS time FROM drizzle.__drizzle_migrations`)
  const applied = new Set(rows.map(({ time }) => Number(time)))
  for (const migration of readMigrationFiles({ migrationsFolder })) {
    if (applied.has(migration.folderMillis)) continue
    for (const statement of migration.sql) await tx.execute(sql.raw(statement))
    await tx.execute(sql`INSERT INTO drizzle.__drizzle_migrations (hash, created_at)
      VALUES (${migration.hash}, ${migration.folderMillis})`)
  }
}

/** Widens user_addresses.user_id if the id of the users table is BIGINT. */
async function widenUserId (tx: Transaction) {
  const [id, userId] = [await columnsOf(tx, 'users'), await columnsOf(tx, 'user_addresses')]
  if (id.get('id')?.type === 'bigint' && userId.get('user_id')?.type === 'integer') {
    await tx.execute(sql`ALTER TABLE user_addresses ALTER COLUMN user_id TYPE bigint`)
  }
}

/**
 * Brings the database at `url` up to date, wholly or not at all. An existing `users` table is not touched. Running this
 * again, or in several processes at once, is harmless: they wait for each other. `ca` is the PEM of the certificate
 * authority to trust. Returns the name of the `users` table, with its schema, if it existed before. Throws WrongShape,
 * or an error with a one-line message.
 */
export async function migrate (url: string, ca?: string): Promise<string | undefined> {
  const client = new pg.Client({
    connectionString: url, connectionTimeoutMillis: connectTimeoutMs, ...(ca && { ssl: { ca } })
  })
  // If the connection dies, the query that waits for it rejects.
  client.on('error', () => {})
  try {
    await client.connect()
  } catch (error) {
    // The error of a host name with several IPs has a code and no message.
    const { code, message } = error as NodeJS.ErrnoException
    throw new Error(`PostgreSQL does not respond: ${[code, message].filter(Boolean).join(' ')}`, { cause: error })
  }
  let found: string | undefined
  try {
    found = await drizzle({ client }).transaction(async (tx) => {
      // Lock and settings end with the transaction: behind PgBouncer the connection serves another client next.
      await tx.execute(sql`SELECT pg_advisory_xact_lock(${lockKey})`)
      // A statement that waits for a lock makes the logins behind it wait, too.
      await tx.execute(sql`SET LOCAL lock_timeout = '5s'`)
      const table = await checkTables(tx)
      await applyMigrations(tx)
      await widenUserId(tx)
      return table
    })
  } catch (error) {
    throw error instanceof Error && error.cause instanceof Error ? error.cause : error
  } finally {
    await client.end()
  }
  return found
}
