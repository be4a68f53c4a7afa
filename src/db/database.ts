import { drizzle, type NodePgDatabase } from 'drizzle-orm/node-postgres'
import pg from 'pg'
import { Problem } from '../http/problems.js'
import { line, turns } from './turns.js'

export type Database = ReturnType<typeof openDatabase>
export type Connection = pg.PoolClient
export type Transaction = NodePgDatabase

/** How to reach PostgreSQL, and how much of it a process uses. */
export interface DatabaseOptions {
  url: string
  /** PEM of the certificate authority to trust. */
  ca: string | undefined
  connectTimeoutMs: number
  /** Connections of this process. */
  poolMax: number
  usesPreparedStatements: boolean
}

/** Longest wait for the turn of a user, for a free connection, and for a response on it, in milliseconds. */
const turnTimeoutMs = 2000
const freeTimeoutMs = 1000
const queryTimeoutMs = 1500

/**
 * Divides the `max` connections of a process. The active check has one or two of its own. Transactions hold at most
 * half of the others, so logins and reads never wait for a connection that a transaction holds. With two connections,
 * logins, reads and transactions share one. With one, everything shares it.
 */
function divideConnections (max: number) {
  const check = max < 4 ? Math.min(1, max - 1) : 2
  const shared = max - check
  return { check, shared, transactions: Math.max(1, Math.floor(shared / 2)) }
}

/** pg-pool has one timeout for two waits: for a free connection, and for a new one, which `newClient` opens. */
function allowToOpen (pool: pg.Pool, openTimeoutMs: number) {
  const { options } = pool
  const newClient = Reflect.get(pool, 'newClient') as (pending: unknown) => void
  return Object.assign(pool, {
    newClient (pending: unknown) {
      options.connectionTimeoutMillis = openTimeoutMs
      try {
        newClient.call(pool, pending)
      } finally {
        options.connectionTimeoutMillis = freeTimeoutMs
      }
    }
  })
}

function openPool (config: DatabaseOptions, max: number) {
  const pool = allowToOpen(new pg.Pool({
    connectionString: config.url,
    ...(config.ca && { ssl: { ca: config.ca } }),
    max,
    connectionTimeoutMillis: freeTimeoutMs,
    query_timeout: queryTimeoutMs,
    keepAlive: true,
    application_name: 'phone-auth',
    // Dates are parsed in this style only, and timestamptz columns as UTC. PgBouncer restores both settings when it
    // switches to another server connection.
    onConnect: (client) => client.query("SET datestyle = 'ISO'; SET timezone = 'UTC'")
  }), config.connectTimeoutMs)
  // The pool does not listen to a connection in use: its death between two queries would end the process. A listener
  // that is added after checkout comes too late, because pg may read the end of the connection in one chunk with the
  // response before it.
  return pool.on('connect', (client) => { client.on('error', () => {}) })
}

/** Opens the pools of a process; nothing connects before the first statement. */
export function openDatabase (config: DatabaseOptions) {
  const share = divideConnections(config.poolMax)
  const pool = openPool(config, share.shared)
  const checkPool = share.check === 0 ? pool : openPool(config, share.check)
  const transactions = line(share.transactions)
  const inTurnOf = turns()

  /**
   * Runs `work` in one transaction. Unlike Drizzle's own, this one sends no ROLLBACK on a connection that no longer
   * responds, and never returns such a connection to the pool.
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
        const isSound = error instanceof Problem && error.statusCode < 500 &&
          await client.query('ROLLBACK').then(() => true, () => false)
        client.release(!isSound)
        throw error
      }
    })

  return Object.assign(drizzle({ client: pool }), {
    pool,
    /** For the active check and the readiness probe only. */
    check: drizzle({ client: checkPool }),
    pools: [...new Set([pool, checkPool])],
    transactions,

    /** The name of a prepared statement. Empty if a pooler cannot keep prepared statements: it then runs unnamed. */
    statementName: (name: string) => config.usesPreparedStatements ? name : '',

    atomically,

    /**
     * Runs `work` in one transaction that locks the row of a user. Transactions of one user take turns before they take
     * a connection: while they wait for each other, or for a lock that another system holds, they hold at most one
     * connection. Throws NoTurn if the turn does not come in time.
     */
    inTurn: <T>(userId: number, work: (tx: Transaction) => Promise<T>): Promise<T> =>
      inTurnOf(userId, turnTimeoutMs, () => atomically(work))
  })
}
