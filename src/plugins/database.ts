import { DrizzleQueryError } from 'drizzle-orm'
import { drizzle, type NodePgDatabase } from 'drizzle-orm/node-postgres'
import fp from 'fastify-plugin'
import pg from 'pg'
import type { Config } from '../config.js'
import { line, NoTurn, turns } from '../db/turns.js'
import { WrongShape } from '../db/users-shape.js'
import { isProblem } from '../errors.js'
import { outageLog, type OutageLog } from '../logger.js'

export type Database = ReturnType<typeof openDatabase>
export type Connection = pg.PoolClient
export type Transaction = NodePgDatabase

/** Longest wait for the turn of a user, for a free connection, and for a response on it, in milliseconds. */
const turnTimeoutMs = 2000
const freeTimeoutMs = 1000
const queryTimeoutMs = 1500

/**
 * How the `max` connections of a process are divided. The active check has up to two of its own. Of the others transactions
 * hold at most half, so logins and reads never wait for one that a transaction holds. Two are too few for that, but the check
 * still has its own; one serves everything.
 */
function divideConnections (max: number) {
  const check = max < 4 ? Math.min(1, max - 1) : 2
  const shared = max - check
  return { check, shared, transactions: Math.max(1, Math.floor(shared / 2)) }
}

/** pg-pool has one timeout for two waits: for a free connection, and for a new one, which `newClient` opens. */
function allowToOpen (pool: pg.Pool, openTimeoutMs: number) {
  const { options } = pool
  const internals = pool as unknown as { newClient: (pending: unknown) => void }
  const newClient = internals.newClient.bind(pool)
  internals.newClient = (pending) => {
    options.connectionTimeoutMillis = openTimeoutMs
    try {
      newClient(pending)
    } finally {
      options.connectionTimeoutMillis = freeTimeoutMs
    }
  }
  return pool
}

function openPool (config: Config, max: number) {
  const pool = allowToOpen(new pg.Pool({
    connectionString: config.databaseUrl,
    ...(config.databaseCa && { ssl: { ca: config.databaseCa } }),
    max,
    connectionTimeoutMillis: freeTimeoutMs,
    query_timeout: queryTimeoutMs,
    keepAlive: true,
    application_name: 'phone-auth',
    // Dates are read in this style alone, and timestamptz columns as UTC. A PgBouncer follows both settings from server to server.
    onConnect: (client) => client.query("SET datestyle = 'ISO'; SET timezone = 'UTC'")
  }), config.databaseConnectTimeoutMs)
  // The pool does not listen to a connection in use: its death between two queries would end the process. A listener that is
  // added once the connection is in use comes too late, because pg may read that death in the same piece as the response before.
  return pool.on('connect', (client) => { client.on('error', noop) })
}

function openDatabase (config: Config) {
  const share = divideConnections(config.databasePoolMax)
  const pool = openPool(config, share.shared)
  const checkPool = share.check === 0 ? pool : openPool(config, share.check)
  const transactions = line(share.transactions)
  const inTurnOf = turns()

  /**
   * Runs `work` in one transaction. Unlike Drizzle's own it does not send ROLLBACK down a connection that no longer
   * responds, and never puts such a connection back into the pool.
   */
  const atomically = <T>(work: (tx: Transaction) => Promise<T>): Promise<T> =>
    transactions.run(freeTimeoutMs, async () => {
      const client = await pool.connect()
      try {
        await client.query('BEGIN')
        const result = await work(drizzle({ client }))
        await client.query('COMMIT')
        client.release()
        return result
      } catch (error) {
        const isSound = isProblem(error) && error.statusCode < 500 && await client.query('ROLLBACK').then(() => true, () => false)
        client.release(!isSound)
        throw error
      }
    })

  return Object.assign(drizzle({ client: pool }), {
    pool,
    /** For the active check alone, and the probe of readiness. */
    check: drizzle({ client: checkPool }),
    pools: [...new Set([pool, checkPool])],
    transactions,

    /** The name for a prepared statement: none where a pooler cannot keep them, which runs it unnamed. */
    statementName: (name: string) => config.databasePreparedStatements ? name : '',

    atomically,

    /**
     * Runs `work` in one transaction that locks the row of a user. Those of one user take turns before they take a connection:
     * while they wait for each other, or for a lock that another system holds, they keep one connection at most.
     */
    inTurn: <T>(userId: number, work: (tx: Transaction) => Promise<T>): Promise<T> =>
      inTurnOf(userId, turnTimeoutMs, () => atomically(work))
  })
}

const noop = () => {}

/** The SQLSTATE of an error that came from PostgreSQL, through Drizzle or not. */
export function sqlState (error: unknown): string | undefined {
  const cause = error instanceof DrizzleQueryError ? error.cause : error
  return cause instanceof pg.DatabaseError ? cause.code : undefined
}

/** SQLSTATE classes that mean a bug of ours, but for a missing table (42P01) and missing rights (42501). */
const isBug = (state: string) => /^(22|23|42)/.test(state) && state !== '42P01' && state !== '42501'

/** Whether an error means that PostgreSQL cannot serve this now: unavailable, starting, busy, out of connections, or without its tables. */
export function isDatabaseUnavailable (error: unknown): boolean {
  const state = sqlState(error)
  if (state !== undefined) return !isBug(state)
  return error instanceof DrizzleQueryError || error instanceof NoTurn || isConnectionError(error)
}

/** What pg and its pool throw outside of a query: a system error code, or one of these messages. */
const isConnectionError = (error: unknown) => error instanceof Error &&
  (/^E(?!RR_)[A-Z_]+$/.test((error as NodeJS.ErrnoException).code ?? '') ||
   /^(timeout exceeded when trying to connect|Connection terminated|Query read timeout|Client has encountered)/.test(error.message))

/** Whether PostgreSQL responds, but lacks a table, a column or a right (class 42), or has `users` in a wrong shape. */
const isIncomplete = (error: unknown) => error instanceof WrongShape || sqlState(error)?.startsWith('42') === true

/** What is wrong with PostgreSQL, as the end of a sentence that begins with its name. */
const describe = (error: unknown) => isIncomplete(error)
  ? 'responds, but not with the tables, columns and rights that the service needs: run npm run doctor'
  : 'does not respond'

declare module 'fastify' {
  interface FastifyInstance {
    db: Database
    databaseOutage: OutageLog
  }
}

export default fp<Config>(async (app, config) => {
  const db = openDatabase(config)
  const outage = outageLog(app.log, 'PostgreSQL', describe)
  for (const pool of db.pools) {
    // Without a listener the death of an idle connection ends the process.
    pool.on('error', outage.down)
    pool.on('release', (error: Error | false | undefined) => {
      // A statement that succeeds ends an outage, but does not prove that all columns are there.
      if (!error && !outage.isUp() && !isIncomplete(outage.cause())) outage.up()
    })
  }
  app.decorate('db', db)
  app.decorate('databaseOutage', outage)
  app.addHook('onClose', async () => { await Promise.all(db.pools.map((pool) => pool.end())) })
}, { name: 'database' })
