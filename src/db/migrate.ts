import { fileURLToPath } from 'node:url'
import { getTableColumns, sql } from 'drizzle-orm'
import { drizzle, type NodePgDatabase } from 'drizzle-orm/node-postgres'
import { migrate as applyMigrations } from 'drizzle-orm/node-postgres/migrator'
import type { PgTable } from 'drizzle-orm/pg-core'
import pg from 'pg'
import { userAddresses, users } from './schema.js'

const migrationsFolder = fileURLToPath(new URL('../../drizzle', import.meta.url))
/** Any number that nobody else locks in this database: "phone" in ASCII. */
const lockKey = 0x70686f6e65
const connectTimeoutMs = 5000

/** How PostgreSQL's format_type names what Drizzle's columns are declared as. */
const typeName = (declared: string) => declared
  .replace('serial', 'integer').replace('varchar', 'character varying').replace('timestamp', 'timestamp without time zone')

/** The columns of `table` that the database has otherwise or not at all; undefined where it has no such table. */
async function differences (db: NodePgDatabase, name: string, table: PgTable) {
  const { rows } = await db.execute<{ name: string, type: string }>(sql`
    SELECT attname AS name, format_type(atttypid, atttypmod) AS type FROM pg_attribute
    WHERE attrelid = to_regclass(${name}) AND attnum > 0 AND NOT attisdropped`)
  if (rows.length === 0) return undefined
  const found = new Map(rows.map((row) => [row.name, row.type]))
  const expected = Object.values(getTableColumns(table))
  return expected.filter((column) => found.get(column.name) !== typeName(column.getSQLType())).map((column) => column.name)
}

/** Throws where a table of another shape stands in the way, before anything is changed. */
async function checkTables (db: NodePgDatabase) {
  const missing = (await differences(db, 'users', users))?.filter((name) => name === 'id' || name === 'phone_number')
  if (missing?.length) throw new Error(`the table users has no fitting column ${missing.join(', ')}; nothing was changed`)
  const other = await differences(db, 'user_addresses', userAddresses)
  if (other?.length) {
    throw new Error(`a table user_addresses of another shape is already there (${other.join(', ')}); rename it and run this again, nothing was changed`)
  }
}

/**
 * Brings the database at `url` up to date; a `users` table that is there is not touched. Harmless when run again, and by
 * several processes at once: they wait for each other. Throws with a one-line message.
 */
export async function migrate (url: string): Promise<void> {
  const client = new pg.Client({ connectionString: url, connectionTimeoutMillis: connectTimeoutMs })
  // The error of a connection that dies comes with the query that waits for it.
  client.on('error', () => {})
  await client.connect()
  try {
    const db = drizzle({ client })
    await client.query('SELECT pg_advisory_lock($1)', [lockKey])
    await checkTables(db)
    await client.query('SET client_min_messages = warning')
    await applyMigrations(db, { migrationsFolder })
  } catch (error) {
    throw error instanceof Error && error.cause instanceof Error ? error.cause : error
  } finally {
    await client.end()
  }
}
