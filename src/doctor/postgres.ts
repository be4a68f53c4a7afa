import type { Socket } from 'node:net'
import type { TLSSocket } from 'node:tls'
import { sql } from 'drizzle-orm'
import Fastify from 'fastify'
import type { PhoneOptions } from '../auth/phone-input.js'
import { usersShape } from '../db/users-shape.js'
import type { Connection, Database, DatabaseOptions } from '../db/database.js'
import { sqlState } from '../db/errors.js'
import database from '../plugins/database.js'
import { errorText, ok, problem, warning, type Finding } from './finding.js'
import { checkNumbers } from './numbers.js'
import { checkRights } from './rights.js'

/** PostgreSQL 14 is the oldest version that its developers support. */
const oldestVersion = 140_000
const maxClockDifferenceMs = 5000
/** The active check has one of these connections. The check of prepared statements needs the other two. */
const connections = 3

/** What pg keeps about a connection: its socket, and the process id that the server sent at startup. */
interface Internals { connection: { stream: Socket & Partial<TLSSocket> }, processID: number }
const internals = (client: object) => client as Internals

/** Whether a connection is encrypted and its certificate verified. */
export function checkTls ({ encrypted, authorized, remoteAddress }: Partial<TLSSocket>): Finding {
  const subject = 'PostgreSQL TLS'
  if (authorized) return ok(subject, 'encrypted, the certificate is verified')
  if (encrypted) {
    return warning(subject, 'encrypted, but the certificate is not verified: ' +
      'use sslmode=verify-full, and DATABASE_CA_FILE for a private authority')
  }
  // A Unix socket has no remote address.
  if (remoteAddress === undefined || /^(127\.|::1$|::ffff:127\.)/.test(remoteAddress)) {
    return ok(subject, 'none, and none is needed on the same machine')
  }
  return warning(subject, 'none: numbers cross the network in clear text, add sslmode=verify-full to DATABASE_URL')
}

interface Server extends Record<string, unknown> {
  version: string
  number: number
  now: number
  isReadOnly: boolean
  isSuperuser: boolean
  role: string
}

const serverFacts = sql`SELECT current_setting('server_version') AS version,
  current_setting('server_version_num')::int AS number,
  extract(epoch FROM clock_timestamp())::float8 * 1000 AS now, current_user AS role,
  current_setting('transaction_read_only') = 'on' OR pg_is_in_recovery() AS "isReadOnly",
  (SELECT rolsuper FROM pg_roles WHERE rolname = current_user) AS "isSuperuser"`

/** Whether a version is still supported; `number` is server_version_num. */
export const checkVersion = (version: string, number: number): Finding => number < oldestVersion
  ? warning('PostgreSQL version', `${version} is no longer supported by its developers: upgrade`)
  : ok('PostgreSQL version', version)

/** Checks what the server reports about itself. */
async function checkServer (db: Database, clock: () => number): Promise<Finding[]> {
  const earliest = clock()
  const { rows: [row] } = await db.execute<Server>(serverFacts)
  const { version, number, now, isReadOnly, isSuperuser, role } = row as Server
  const differenceMs = Math.max(earliest - now, now - clock(), 0)
  return [
    checkVersion(version, number),
    differenceMs > maxClockDifferenceMs
      ? warning('PostgreSQL clock', `${Math.round(differenceMs / 1000)} s apart from this machine: run NTP on both`)
      : ok('PostgreSQL clock', 'agrees with this machine'),
    isReadOnly
      ? problem('PostgreSQL writes',
        'the connection is read-only: point DATABASE_URL to the primary, and see default_transaction_read_only')
      : ok('PostgreSQL writes', 'accepted'),
    isSuperuser
      ? warning('PostgreSQL role',
        `${role} is a superuser: give the service a role with the rights in docs/existing-users-table.md`)
      : ok('PostgreSQL role', role)
  ]
}

const statements = 'PostgreSQL prepared statements'
/** SQLSTATEs of a statement that another connection to the server prepared, or that this one did not. */
const lostStatement = ['26000', '42P05', '08P01']

/**
 * A pooler sends a process id of its own at startup. In transaction mode it moves a client from one server connection
 * to another: while a transaction holds the connection that prepared a statement, the statement runs on another
 * connection.
 */
async function tryStatements (connect: () => Promise<Connection>, isUsed: boolean): Promise<Finding> {
  const statement = { name: 'phone_auth_doctor', text: 'SELECT pg_backend_pid() AS pid' }
  const client = await connect()
  const { rows } = await client.query<{ pid: number }>(statement.text)
  if (rows.some(({ pid }) => pid === internals(client).processID)) {
    return isUsed
      ? ok(statements, 'used, there is no pooler')
      : warning(statements, 'not used although there is no pooler: DATABASE_PREPARED_STATEMENTS=true is faster')
  }
  if (!isUsed) return ok(statements, 'not used, there is a pooler')
  await client.query(statement)
  await (await connect()).query('BEGIN')
  await client.query(statement)
  return ok(statements, 'the pooler keeps them')
}

async function checkPreparedStatements (db: Database, isUsed: boolean): Promise<Finding> {
  const opened: Connection[] = []
  const connect = async () => {
    const client = await db.pool.connect()
    opened.push(client)
    return client
  }
  const finding = await tryStatements(connect, isUsed)
    .catch((error: unknown) => lostStatement.includes(sqlState(error) ?? '')
      ? problem(statements, 'the pooler loses them: set DATABASE_PREPARED_STATEMENTS=false, ' +
        'or max_prepared_statements in PgBouncer 1.24 or later')
      : warning(statements, `not checked: ${errorText(error)}`))
  // Closing the connections ends the transaction.
  for (const client of opened) client.release(true)
  return finding
}

async function checkUsers (db: Database, phones: PhoneOptions): Promise<Finding[]> {
  const { table, issues } = await usersShape(db)
  if (table === undefined) return issues.map((issue) => problem('users', issue))
  const findings = issues.length > 0
    ? issues.map((issue) => problem('users', issue.replace(`${table}: `, '')))
    : [ok('users', `${table} has the shape that the service needs`)]

  const { rows: triggers } = await db.execute<{ name: string }>(sql`SELECT tgname AS name FROM pg_trigger
    WHERE tgrelid = to_regclass('users') AND NOT tgisinternal AND tgenabled <> 'D' ORDER BY 1`)
  findings.push(triggers.length > 0
    ? warning('users triggers', `${triggers.map(({ name }) => name).join(', ')}: ` +
      'make sure that they neither refuse nor change what the service writes')
    : ok('users triggers', 'none'))
  const { rows: [security] } = await db.execute<{ isActive: boolean }>(
    sql`SELECT row_security_active(to_regclass('users')::oid) AS "isActive"`)
  findings.push(security?.isActive
    ? warning('users row level security',
      'applies to this role: a policy that hides a row hides its owner, use a role with BYPASSRLS')
    : ok('users row level security', 'does not apply to this role'))

  const rights = await checkRights(db)
  findings.push(...rights)
  const isReadable = issues.length === 0 && rights.every(({ level }) => level !== 'problem')
  if (isReadable) findings.push(...await checkNumbers(db, phones))
  else findings.push(warning('users numbers', 'not checked: solve the problems above first'))
  return findings
}

/** Checks PostgreSQL, the role and the table `users`. Changes nothing. */
export async function checkPostgres (
  options: DatabaseOptions, phones: PhoneOptions, clock: () => number
): Promise<Finding[]> {
  const app = Fastify({ logger: false })
  await app.register(database, { ...options, poolMax: connections })
  const { db } = app
  const findings: Finding[] = []
  try {
    const started = performance.now()
    const client = await db.pool.connect()
    findings.push(ok('PostgreSQL', `reachable in ${Math.round(performance.now() - started)} ms`))
    findings.push(checkTls(internals(client).connection.stream))
    client.release()
    findings.push(...await checkServer(db, clock), await checkPreparedStatements(db, options.usesPreparedStatements))
    findings.push(...await checkUsers(db, phones))
  } catch (error) {
    findings.push(findings.length > 0
      ? problem('PostgreSQL', `a check failed: ${errorText(error)}`)
      : problem('PostgreSQL', `not reachable: ${errorText(error)}. ` +
        'Check host, port, user and password in DATABASE_URL, and the firewall'))
  } finally {
    await app.close()
  }
  return findings
}
