import { fileURLToPath } from 'node:url'
import { getTableColumns, sql } from 'drizzle-orm'
import { readMigrationFiles } from 'drizzle-orm/migrator'
import { drizzle } from 'drizzle-orm/node-postgres'
import pg from 'pg'
import type { Transaction } from './database.js'
import { userAddresses } from './schema.js'
import { otherUsersTables, searchPathAdvice, usersShape, WrongShape } from './users-shape.js'

const migrationsFolder = fileURLToPath(new URL('../../drizzle', import.meta.url))
/** Any number that nobody else locks in this database: "phone" in ASCII. */
const lockKey = 0x70686f6e65
const connectTimeoutMs = 5000

/** How PostgreSQL's format_type names what Drizzle's columns are declared as. */
const typeName = (declared: string) => declared
  .replace('serial', 'integer').replace('varchar', 'character varying').replace('timestamp', 'timestamp without time zone')

/** The columns of a table as the database has them, by name; none where it has no such table. */
async function columnsOf (tx: Transaction, name: string) {
  const { rows } = await tx.execute<{ name: string, type: string, isNotNull: boolean, isFilled: boolean, cascades: boolean }>(sql`
    SELECT attname AS name, format_type(atttypid, atttypmod) AS type, attnotnull AS "isNotNull",
      atthasdef OR attidentity <> '' AS "isFilled",
      EXISTS (SELECT FROM pg_constraint WHERE conrelid = attrelid AND conkey = ARRAY[attnum]
        AND confrelid = to_regclass('users') AND confdeltype = 'c') AS cascades
    FROM pg_attribute WHERE attrelid = to_regclass(${name}) AND attnum > 0 AND NOT attisdropped`)
  return new Map(rows.map((row) => [row.name, row]))
}

/** Throws if a table is in the way, with one line for each thing that is wrong. Returns the users table that was found. */
async function checkTables (tx: Transaction) {
  const others = await otherUsersTables(tx)
  const { table, issues } = await usersShape(tx)
  if (!table && others.length > 0) throw new WrongShape([`no table users was created, as ${searchPathAdvice(others)}; nothing was changed`])
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
  const fits = (name: string, found: string | undefined, type: string) => found === type || (name === 'user_id' && found === 'bigint')
  const other = expected
    .filter(({ name, type, isNotNull }) => !fits(name, addresses.get(name)?.type, type) || addresses.get(name)?.isNotNull !== isNotNull)
    .map(({ name }) => name)
  if (!addresses.get('id')?.isFilled) other.push('id')
  if (!addresses.get('user_id')?.cascades) other.push('user_id')
  // An optional column more is in nobody's way.
  for (const { name, isNotNull, isFilled } of addresses.values()) {
    if (isNotNull && !isFilled && !expected.some((column) => column.name === name)) other.push(name)
  }
  if (other.length > 0) {
    throw new Error(`a table user_addresses of another shape is already there (${[...new Set(other)].join(', ')}); rename it and run this again, nothing was changed`)
  }
}

/** New tables go beside a users table that is there, in whichever schema of the search path that is. */
const besideUsers = (tx: Transaction) => tx.execute(sql`
  SELECT set_config('search_path', quote_ident(nspname), true) FROM pg_class JOIN pg_namespace ON pg_namespace.oid = relnamespace
  WHERE pg_class.oid = to_regclass('users')`)

/** Applies what the journal does not have yet: Drizzle's migrator, but inside the transaction that holds the lock. */
async function applyMigrations (tx: Transaction) {
  await tx.execute(sql`CREATE SCHEMA IF NOT EXISTS drizzle`)
  await tx.execute(sql`CREATE TABLE IF NOT EXISTS drizzle.__drizzle_migrations (id serial PRIMARY KEY, hash text NOT NULL, created_at bigint)`)
  const { rows } = await tx.execute<{ time: string }>(sql`SELECT created_at AS time FROM drizzle.__drizzle_migrations`)
  const applied = new Set(rows.map(({ time }) => Number(time)))
  for (const migration of readMigrationFiles({ migrationsFolder })) {
    if (applied.has(migration.folderMillis)) continue
    for (const statement of migration.sql) await tx.execute(sql.raw(statement))
    await tx.execute(sql`INSERT INTO drizzle.__drizzle_migrations (hash, created_at) VALUES (${migration.hash}, ${migration.folderMillis})`)
  }
}

/** Makes room for the ids of a users table whose id is BIGINT. */
async function widenUserId (tx: Transaction) {
  const [id, userId] = [await columnsOf(tx, 'users'), await columnsOf(tx, 'user_addresses')]
  if (id.get('id')?.type === 'bigint' && userId.get('user_id')?.type === 'integer') {
    await tx.execute(sql`ALTER TABLE user_addresses ALTER COLUMN user_id TYPE bigint`)
  }
}

/**
 * Brings the database at `url` up to date, wholly or not at all; a `users` table that is there is not touched. Harmless
 * when run again, and by several processes at once: they wait for each other. `ca` is the certificate to trust, in PEM.
 * Returns the table `users` with its schema if it was there before. Throws with a one-line message, or WrongShape.
 */
export async function migrate (url: string, ca?: string): Promise<string | undefined> {
  const client = new pg.Client({ connectionString: url, connectionTimeoutMillis: connectTimeoutMs, ...(ca && { ssl: { ca } }) })
  // The error of a connection that dies comes with the query that waits for it.
  client.on('error', () => {})
  try {
    await client.connect()
  } catch (error) {
    // A name with several addresses fails with a code and no message.
    const { code, message } = error as NodeJS.ErrnoException
    throw new Error(`PostgreSQL does not answer: ${[code, message].filter(Boolean).join(' ')}`, { cause: error })
  }
  let found: string | undefined
  try {
    found = await drizzle({ client }).transaction(async (tx) => {
      // All ends with the transaction, lock and settings too: behind a PgBouncer the connection serves others next.
      await tx.execute(sql`SELECT pg_advisory_xact_lock(${lockKey})`)
      // Whoever waits for a lock makes the logins behind it wait as well.
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
