import { getTableColumns, sql, type DrizzleQueryError, type SQL } from 'drizzle-orm'
import type { NodePgDatabase } from 'drizzle-orm/node-postgres'
import { getExampleNumber } from 'libphonenumber-js/max'
import examples from 'libphonenumber-js/mobile/examples'
import { languages, marketIds, markets } from '../phone/markets.js'
import { users } from './schema.js'

export type Queryable = Pick<NodePgDatabase, 'execute'>

/** The table `users` on the search_path, and the issues that keep the service from working with it, one line each. */
interface UsersShape {
  /** Qualified with its schema, and quoted where necessary; undefined if there is no such table. */
  table: string | undefined
  issues: string[]
}

/** The columns that a registration writes. All others keep their default. */
const written = [
  'phone_number', 'market', 'language', 'country', 'is_active', 'is_verified', 'last_login', 'created_at', 'updated_at'
]

/** The longest value that the service writes, in characters. E.164 has a sign and at most 15 digits. */
const longest: Record<string, number> = {
  phone_number: 16,
  market: Math.max(...marketIds.map((id) => id.length)),
  language: Math.max(...languages.map((language) => language.length)),
  country: Math.max(...marketIds.map((id) => markets[id].country.length))
}

/**
 * PostgreSQL's names of the types that suit a column, by the type that Drizzle declares. The first one is the advice.
 */
const fittingTypes: Array<[declared: RegExp, types: string[]]> = [
  [/^serial/, ['integer', 'bigint', 'smallint']],
  [/^varchar/, ['character varying', 'text', 'citext', 'enum']],
  [/^boolean/, ['boolean']],
  [/^timestamp/, ['timestamp without time zone', 'timestamp with time zone']]
]

interface Column extends Record<string, unknown> {
  name: string
  /** Without its length. For a domain, its base type. */
  type: string
  /** The limit of a varchar; null without a limit, and for other types. */
  length: number | null
  isNotNull: boolean
  hasDefault: boolean
  isGenerated: boolean
}

const columnsOf = (oid: number) => sql`
  SELECT attname AS name,
    CASE typtype WHEN 'e' THEN 'enum' ELSE format_type(coalesce(nullif(typbasetype, 0), atttypid), NULL) END AS type,
    CASE WHEN atttypid = 'varchar'::regtype AND atttypmod > 4 THEN atttypmod - 4 END AS length,
    attnotnull OR typnotnull AS "isNotNull",
    atthasdef OR attidentity <> '' OR typdefault IS NOT NULL AS "hasDefault",
    attgenerated <> '' OR attidentity = 'a' AS "isGenerated"
  FROM pg_attribute JOIN pg_type ON pg_type.oid = atttypid WHERE attrelid = ${oid} AND attnum > 0 AND NOT attisdropped`

/** An index that ON CONFLICT (phone_number) can use: on this column alone, over all rows, valid, and not deferrable. */
const uniqueIndex = (oid: number) => sql`
  SELECT FROM pg_index JOIN pg_attribute ON attrelid = indrelid AND attnum = indkey[0]
  WHERE indrelid = ${oid} AND attname = 'phone_number' AND indnkeyatts = 1
    AND indisunique AND indisvalid AND indimmediate AND indpred IS NULL`

interface Rule extends Record<string, unknown> {
  /** `name` begins the line about this rule, `advice` ends it. */
  name: string
  advice: string
  /** In SQL: TRUE for a row that the rule lets through. */
  expression: string
}

/**
 * CHECK constraints that apply to a new row, except those that read a column that the service leaves to its default.
 */
const checks = (oid: number) => sql`
  SELECT format('column %s: constraint %I', (SELECT string_agg(attname, ', ') FROM pg_attribute
      WHERE attrelid = conrelid AND attnum = ANY(conkey)), conname) AS name,
    format('ALTER TABLE %s DROP CONSTRAINT %I, and add a wider one', conrelid::regclass, conname) AS advice,
    format('(%s) IS NOT FALSE', pg_get_expr(conbin, conrelid)) AS expression
  FROM pg_constraint WHERE conrelid = ${oid} AND contype = 'c' AND NOT EXISTS (
    SELECT FROM pg_attribute WHERE attrelid = conrelid AND attnum = ANY(conkey) AND (atthasdef OR attidentity <> '')
      AND attname NOT IN (${sql.join(written.map((name) => sql`${name}`), sql`, `)}))`

/**
 * Row level security for this role, one rule for each command: at least one permissive policy and every restrictive
 * policy must let a row through. Without a policy no row passes.
 */
const policies = (oid: number) => sql`
  SELECT format('row level security for %s', command) AS name,
    format('ALTER ROLE %I BYPASSRLS, or a policy that shows the service all rows', current_user) AS advice,
    concat_ws(' AND ', coalesce('(' || string_agg(condition, ' OR ') FILTER (WHERE polpermissive) || ')', 'FALSE'),
      string_agg(condition, ' AND ') FILTER (WHERE NOT polpermissive)) AS expression
  FROM (VALUES ('SELECT', 'r'), ('INSERT', 'a'), ('UPDATE', 'w'), ('DELETE', 'd')) AS commands (command, letter)
  LEFT JOIN pg_policy ON polrelid = ${oid} AND polcmd IN ('*', letter::"char")
    AND EXISTS (SELECT FROM unnest(polroles) AS role
      WHERE CASE WHEN role = 0 THEN TRUE ELSE pg_has_role(role, 'USAGE') END)
  CROSS JOIN LATERAL (SELECT format('(%s) IS TRUE',
    coalesce(CASE letter WHEN 'a' THEN pg_get_expr(polwithcheck, polrelid) END,
      pg_get_expr(polqual, polrelid), 'TRUE'))) AS conditions (condition)
  WHERE row_security_active(${oid}::oid) GROUP BY command`

/** The rows that a registration writes, one for each market and language, as JSON. */
const samples = JSON.stringify(marketIds.flatMap((market) => languages.map((language) => ({
  phone_number: getExampleNumber(markets[market].countryCode, examples)?.number,
  market,
  language,
  country: markets[market].country,
  is_active: true,
  is_verified: true,
  last_login: '2026-01-01 00:00:00',
  created_at: '2026-01-01 00:00:00',
  updated_at: '2026-01-01 00:00:00'
}))))

/**
 * The issue of the first sample that a rule does not let through; undefined if all pass. A type or domain that refuses
 * a sample is an error of class 22 or 23.
 */
async function refusal (db: Queryable, table: string, { name, expression, advice }: Rule): Promise<string | undefined> {
  // The samples are named users, because an expression may contain the name of the table.
  const query = sql`WITH users AS (SELECT new.* FROM jsonb_array_elements(${samples}::jsonb) AS sample,
    jsonb_populate_record(NULL::${sql.raw(table)}, sample) AS new)
    SELECT market, language FROM users WHERE NOT (${sql.raw(expression)}) LIMIT 1`
  try {
    const { rows: [row] } = await db.execute<{ market: string, language: string }>(query)
    return row && `${name} refuses a user of market ${row.market} with language ${row.language}: ${advice}`
  } catch (error) {
    const { code, message } = (error as DrizzleQueryError).cause as NodeJS.ErrnoException
    if (!/^(22|23|42)/.test(String(code))) throw error
    return `${name} cannot be evaluated for a new user (${message}): ${advice}`
  }
}

/** The issues of the columns themselves. */
function columnIssues (table: string, columns: Column[]): string[] {
  const found = new Map(columns.map((column) => [column.name, column]))
  const needed = Object.values(getTableColumns(users)).flatMap((column) => {
    const issue = columnIssue(`ALTER TABLE ${table}`, column.name, column.getSQLType(), found.get(column.name))
    return issue === undefined ? [] : [`column ${column.name} ${issue}`]
  })
  const leftOut = columns
    .filter(({ name, isNotNull, hasDefault }) => isNotNull && !hasDefault && !written.includes(name))
    .map(({ name }) => `column ${name} is NOT NULL without a default, but the service leaves it out: ` +
      `ALTER TABLE ${table} ALTER COLUMN ${name} ${
        name === 'id' ? 'ADD GENERATED BY DEFAULT AS IDENTITY' : 'DROP NOT NULL, or SET DEFAULT'}`)
  return [...needed, ...leftOut]
}

/** The issue of one column that the service uses, as the end of a sentence; undefined if the column fits. */
function columnIssue (
  alterTable: string, name: string, declared: string, column: Column | undefined
): string | undefined {
  if (column === undefined) return `is missing: ${alterTable} ADD COLUMN ${name} ${declared}`
  const types = fittingTypes.find(([pattern]) => pattern.test(declared))?.[1] as string[]
  const alter = `${alterTable} ALTER COLUMN ${name}`
  if (!types.includes(column.type)) {
    const advice = name === 'id' ? 'give each user a whole number' : `${alter} TYPE ${types[0]}`
    return `has the type ${column.type}, the service needs ${types.join(' or ')}: ${advice}`
  }
  const length = longest[name] ?? 0
  if (column.length !== null && column.length < length) {
    return `holds ${column.length} characters, the service writes up to ${length}: ${alter} TYPE varchar(${length})`
  }
  return column.isGenerated && written.includes(name)
    ? `is generated, but the service writes it: ${alter} DROP EXPRESSION`
    : undefined
}

/** The tables `users` with a phone_number in schemas outside the search_path. */
export async function otherUsersTables (db: Queryable): Promise<string[]> {
  const { rows } = await db.execute<{ name: string }>(sql`
    SELECT format('%I.users', nspname) AS name FROM pg_class JOIN pg_namespace ON pg_namespace.oid = relnamespace
    WHERE relname = 'users' AND relkind IN ('r', 'p', 'v', 'm', 'f') AND relpersistence <> 't'
      AND pg_class.oid IS DISTINCT FROM to_regclass('users')
      AND EXISTS (SELECT FROM pg_attribute
        WHERE attrelid = pg_class.oid AND attname = 'phone_number' AND NOT attisdropped)
    ORDER BY 1`)
  return rows.map(({ name }) => name)
}

/** What to do about `tables`, which are outside the search_path. */
export const searchPathAdvice = (tables: string[]) =>
  `${tables.join(' and ')} ${tables.length > 1 ? 'are' : 'is'} outside the search_path: ` +
  'add ?options=-c%20search_path=SCHEMA to DATABASE_URL, or ALTER ROLE … SET search_path = SCHEMA'

/**
 * Compares the table `users` with what the service needs (CONTRACT, section 6). Reads the catalog, and evaluates CHECK
 * constraints and policies on sample rows; changes nothing. Throws if PostgreSQL does not respond.
 */
export async function usersShape (db: Queryable): Promise<UsersShape> {
  const { rows: [found] } = await db.execute<{ oid: number, name: string }>(sql`
    SELECT pg_class.oid, format('%I.%I', nspname, relname) AS name
    FROM pg_class JOIN pg_namespace ON pg_namespace.oid = relnamespace WHERE pg_class.oid = to_regclass('users')`)
  if (!found) {
    const others = await otherUsersTables(db)
    const advice = others.length > 0 ? searchPathAdvice(others) : 'npm run db:migrate creates it'
    return { table: undefined, issues: [`no table users: ${advice}`] }
  }
  const all = async <Row extends Record<string, unknown>>(query: SQL) => (await db.execute<Row>(query)).rows

  const columns = await all<Column>(columnsOf(found.oid))
  const issues = columnIssues(found.name, columns)
  if (columns.some(({ name }) => name === 'phone_number') && (await all(uniqueIndex(found.oid))).length === 0) {
    issues.push('column phone_number has no UNIQUE constraint that holds at once for all rows: ' +
      `ALTER TABLE ${found.name} ADD UNIQUE (phone_number)`)
  }
  // A sample needs columns that fit. The first rule lets through every sample that can be built.
  if (issues.length === 0) {
    const columnRule = { name: 'the type of a column', advice: 'widen it', expression: 'market IS NOT NULL' }
    for (const rule of [columnRule, ...await all<Rule>(checks(found.oid)), ...await all<Rule>(policies(found.oid))]) {
      const issue = await refusal(db, found.name, rule)
      if (issue !== undefined) issues.push(issue)
    }
  }
  return { table: found.name, issues: issues.map((issue) => `${found.name}: ${issue}`) }
}

/** The table `users` has a shape that the service cannot work with. */
export class WrongShape extends Error {
  readonly issues: string[]

  constructor (issues: string[]) {
    super(issues.join('\n'))
    this.issues = issues
  }
}
