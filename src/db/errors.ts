import { DrizzleQueryError } from 'drizzle-orm'
import pg from 'pg'
import { NoTurn } from './turns.js'
import { WrongShape } from './users-shape.js'

/** The SQLSTATE of an error from PostgreSQL, wrapped by Drizzle or not; undefined for any other error. */
export function sqlState (error: unknown): string | undefined {
  const cause = error instanceof DrizzleQueryError ? error.cause : error
  return cause instanceof pg.DatabaseError ? cause.code : undefined
}

/** SQLSTATE classes that mean a bug in the service, except for a missing table (42P01) and missing rights (42501). */
const isBug = (state: string) => /^(22|23|42)/.test(state) && state !== '42P01' && state !== '42501'

/**
 * Whether an error means that PostgreSQL cannot serve the request now: it is unavailable, starting, busy, out of
 * connections, or lacks its tables.
 */
export function isDatabaseUnavailable (error: unknown): boolean {
  const state = sqlState(error)
  if (state !== undefined) return !isBug(state)
  return error instanceof DrizzleQueryError || error instanceof NoTurn || isConnectionError(error)
}

/** Errors that pg and its pool throw outside of a query: with a system error code, or with one of these messages. */
const isConnectionError = (error: unknown) => error instanceof Error &&
  (/^E(?!RR_)[A-Z_]+$/.test((error as NodeJS.ErrnoException).code ?? '') ||
   /^(timeout exceeded when trying to connect|Connection terminated|Query read timeout|Client has encountered)/
     .test(error.message))

/** Whether PostgreSQL responds, but lacks a table, a column or a right (class 42), or has `users` in a wrong shape. */
export const isIncomplete = (error: unknown) =>
  error instanceof WrongShape || sqlState(error)?.startsWith('42') === true

/** What is wrong with PostgreSQL, as the end of a sentence that begins with its name. */
export const describeDatabase = (error: unknown) => isIncomplete(error)
  ? 'responds, but not with the tables, columns and rights that the service needs: run npm run doctor'
  : 'does not respond'
