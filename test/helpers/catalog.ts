import { randomBytes } from 'node:crypto'
import pg from 'pg'
import type { Test } from 'tap'

type Sql = (text: string, values?: unknown[]) => Promise<unknown[]>

/** Everything that a dump shows of a table and its sequence, from the catalog. */
export async function describeTable (sql: Sql, table: string) {
  const oid = `'${table}'::regclass`
  const ask = async (text: string) => await sql(text)
  return {
    table: await ask(`SELECT relname, relnamespace::regnamespace::text, relowner::regrole::text, relkind,
      relpersistence, relacl::text, relreplident, reloptions, relrowsecurity, relforcerowsecurity, reltablespace,
      obj_description(oid) FROM pg_class WHERE oid = ${oid}`),
    columns: await ask(`SELECT attname, format_type(atttypid, atttypmod), attnotnull, attidentity, attgenerated,
      attstorage, attcompression, attstattarget, attoptions, attacl::text, attcollation::regcollation::text, attislocal,
      pg_get_expr(adbin, adrelid), col_description(attrelid, attnum)
      FROM pg_attribute LEFT JOIN pg_attrdef ON adrelid = attrelid AND adnum = attnum
      WHERE attrelid = ${oid} AND attnum > 0 AND NOT attisdropped ORDER BY attnum`),
    constraints: await ask(`SELECT conname, contype, convalidated, pg_get_constraintdef(oid), obj_description(oid)
      FROM pg_constraint WHERE conrelid = ${oid} ORDER BY conname`),
    indexes: await ask(`SELECT pg_get_indexdef(indexrelid), indisclustered, indisreplident, obj_description(indexrelid)
      FROM pg_index WHERE indrelid = ${oid} ORDER BY 1`),
    triggers: await ask(`SELECT pg_get_triggerdef(oid), tgenabled
      FROM pg_trigger WHERE tgrelid = ${oid} AND NOT tgisinternal ORDER BY tgname`),
    rules: await ask(`SELECT pg_get_ruledef(oid) FROM pg_rewrite WHERE ev_class = ${oid} ORDER BY rulename`),
    policies: await ask(
      `SELECT polname, polcmd, polpermissive FROM pg_policy WHERE polrelid = ${oid} ORDER BY polname`
    ),
    statistics: await ask(
      `SELECT pg_get_statisticsobjdef(oid) FROM pg_statistic_ext WHERE stxrelid = ${oid} ORDER BY 1`
    ),
    sequence: await ask(`SELECT seqstart, seqincrement, seqmax, seqmin, seqcache, seqcycle, relowner::regrole::text,
      relacl::text FROM pg_sequence JOIN pg_class ON pg_class.oid = seqrelid
      WHERE seqrelid = pg_get_serial_sequence('${table}', 'id')::regclass`),
    sequenceState: await ask(`SELECT last_value, is_called FROM ${table}_id_seq`)
  }
}

/** The rows, each with its place on disk and its transaction: a rewrite with the same values shows, too. */
export const rowsOf = (sql: Sql, table: string) =>
  sql(`SELECT ctid::text, xmin::text, (SELECT relfilenode FROM pg_class WHERE oid = '${table}'::regclass), *
    FROM ${table} ORDER BY ctid`)

/** The relations and schemas of a database that are not in every database. */
export const relationsOf = (sql: Sql) => sql(`SELECT relnamespace::regnamespace::text || '.' || relname AS name, relkind
  FROM pg_class
  WHERE relnamespace::regnamespace::text NOT LIKE 'pg\\_%' AND relnamespace <> 'information_schema'::regnamespace
  UNION ALL SELECT nspname, 'schema' FROM pg_namespace WHERE nspname NOT LIKE 'pg\\_%' ORDER BY 1`)

/** A role that may log in and nothing else. Create it before the database in which it gets rights. */
export async function testRole (t: Test) {
  const name = `role_${randomBytes(6).toString('hex')}`
  const admin = async (statement: string) => {
    const client = new pg.Client(process.env.TEST_POSTGRES_URL)
    await client.connect()
    try { await client.query(statement) } finally { await client.end() }
  }
  await admin(`CREATE ROLE ${name} LOGIN PASSWORD 'secret'`)
  t.teardown(() => admin(`DROP ROLE ${name}`))
  return { name, in: (databaseUrl: string) => databaseUrl.replace(/\/\/[^@]+@/, `//${name}:secret@`) }
}
