import { DrizzleQueryError } from 'drizzle-orm'
import { drizzle, type NodePgDatabase } from 'drizzle-orm/node-postgres'
import fp from 'fastify-plugin'
import pg from 'pg'
import type { Config } from '../config.js'
import { isProblem } from '../errors.js'
import { outageLog, type OutageLog } from '../logger.js'

export type Database = ReturnType<typeof openDatabase>
export type Transaction = NodePgDatabase

/** Longest wait for a free or new connection, and for an answer on it, in milliseconds. */
const connectTimeoutMs = 1000
const queryTimeoutMs = 1500

function openDatabase (config: Config) {
  const pool = new pg.Pool({
    connectionString: config.databaseUrl,
    max: config.databasePoolMax,
    connectionTimeoutMillis: connectTimeoutMs,
    query_timeout: queryTimeoutMs,
    keepAlive: true,
    application_name: 'phone-auth',
    // The database may be set to another style, which nobody could read here.
    onConnect: (client) => client.query("SET datestyle = 'ISO'")
  })

  return Object.assign(drizzle({ client: pool }), {
    pool,

    /** The name for a prepared statement: none where a pooler cannot keep them, which runs it unnamed. */
    statementName: (name: string) => config.databasePreparedStatements ? name : '',

    /**
     * Runs `work` in one transaction. Unlike Drizzle's own it does not send ROLLBACK down a connection that no longer
     * answers, and never puts such a connection back into the pool.
     */
    async atomically<T> (work: (tx: Transaction) => Promise<T>): Promise<T> {
      const client = await pool.connect()
      // The pool does not listen to a connection in use; its death between two queries would end the process.
      client.on('error', noop)
      const giveBack = (isSound: boolean) => {
        client.release(!isSound)
        client.off('error', noop)
      }
      try {
        await client.query('BEGIN')
        const result = await work(drizzle({ client }))
        await client.query('COMMIT')
        giveBack(true)
        return result
      } catch (error) {
        giveBack(isProblem(error) && error.statusCode < 500 && await client.query('ROLLBACK').then(() => true, () => false))
        throw error
      }
    }
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

/** Whether an error means that PostgreSQL cannot answer: away, starting, out of connections, or without its tables. */
export function isDatabaseUnavailable (error: unknown): boolean {
  const state = sqlState(error)
  if (state !== undefined) return !isBug(state)
  return error instanceof DrizzleQueryError || isConnectionError(error)
}

/** What pg and its pool throw outside of a query: a system error code, or one of these messages. */
const isConnectionError = (error: unknown) => error instanceof Error &&
  (/^E(?!RR_)[A-Z_]+$/.test((error as NodeJS.ErrnoException).code ?? '') ||
   /^(timeout exceeded when trying to connect|Connection terminated|Query read timeout|Client has encountered)/.test(error.message))

declare module 'fastify' {
  interface FastifyInstance {
    db: Database
    databaseOutage: OutageLog
  }
}

export default fp<Config>(async (app, config) => {
  const db = openDatabase(config)
  const outage = outageLog(app.log, 'PostgreSQL')
  // Without a listener the death of an idle connection ends the process.
  db.pool.on('error', outage.down)
  app.decorate('db', db)
  app.decorate('databaseOutage', outage)
  app.addHook('onClose', async () => { await db.pool.end() })
}, { name: 'database' })
