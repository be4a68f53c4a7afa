import { and, eq, isNull, not, or, sql } from 'drizzle-orm'
import { users, utcNow } from '../db/schema.js'
import { problem } from '../http/problems.js'
import { markets, type Language, type MarketId } from '../phone/markets.js'
import type { Database, Transaction } from '../db/database.js'
import { sqlState } from '../db/errors.js'

export type User = typeof users.$inferSelect
export type UsersRepository = ReturnType<typeof usersRepository>

/** foreign_key_violation, and restrict_violation since PostgreSQL 18. */
const inUseStates = ['23503', '23001']

/**
 * The last_login that a login writes: this second, or the next one if the previous login was logged out within it, so
 * that no revoked token has it. A fraction is left by a logout (or another system), also where is_active is TRUE again.
 * Every statement of this file runs on Citus with `users` as a reference table: no clock in a CASE or after RETURNING.
 */
const nextLogin = sql`greatest(date_trunc('second', ${utcNow}), date_trunc('second', ${users.lastLogin} +
  CASE WHEN ${users.isActive} THEN interval '0.999999 seconds' ELSE interval '1 second' END))`

/**
 * Many logins and logouts within a second move last_login ahead of the clock. From 30 s on, a login has to wait: tokens
 * that start more than 60 s ahead are refused. A value more than 60 s ahead is another system's and counts as now.
 */
const maxLeadSeconds = 30
const isAhead = sql`${users.lastLogin} >= ${utcNow} + interval '30 seconds'`
const isFarAhead = sql`${users.lastLogin} > ${utcNow} + interval '60 seconds'`
/** How often a login starts again because other requests changed the row between its statements. */
const maxTries = 5
const thisSecond = sql`date_trunc('second', ${utcNow})`

/** Everything the service reads and writes in the users table. */
export function usersRepository (db: Database) {
  // The columns by name: a table of an earlier system may have more.
  const columns = {
    id: users.id,
    phoneNumber: users.phoneNumber,
    fullName: users.fullName,
    profileImageUrl: users.profileImageUrl,
    isActive: users.isActive,
    isVerified: users.isVerified,
    lastLogin: users.lastLogin,
    market: users.market,
    language: users.language,
    country: users.country,
    createdAt: users.createdAt,
    updatedAt: users.updatedAt
  }
  const { placeholder } = sql

  const byId = db.select(columns).from(users).where(eq(users.id, placeholder('id'))).prepare(db.statementName('user_by_id'))
  const byPhone = db.select({ id: users.id, language: users.language, isVerified: users.isVerified, lastLogin: users.lastLogin }).from(users)
    .where(eq(users.phoneNumber, placeholder('phone'))).prepare(db.statementName('user_by_phone'))

  const ofPhone = eq(users.phoneNumber, placeholder('phone'))
  const signedIn = { isActive: true, isVerified: true, updatedAt: utcNow, market: sql`${placeholder('market')}` }
  const login = db.update(users).set({ ...signedIn, lastLogin: nextLogin })
    .where(and(ofPhone, or(isNull(users.lastLogin), not(isAhead))))
    .returning(columns).prepare(db.statementName('login'))
  const loginFarAhead = db.update(users).set({ ...signedIn, lastLogin: thisSecond })
    .where(and(ofPhone, isFarAhead)).returning(columns).prepare(db.statementName('login_far_ahead'))
  // An infinite last_login cannot be subtracted from.
  const lead = db.select({
    isFarAhead: sql<boolean>`${isFarAhead}`,
    seconds: sql<number>`extract(epoch FROM
      least(${users.lastLogin}, ${utcNow} + interval '60 seconds') - ${utcNow})::float8`
  }).from(users).where(and(ofPhone, isAhead)).prepare(db.statementName('login_lead'))
  const register = db.insert(users).values({
    phoneNumber: placeholder('phone'),
    market: placeholder('market'),
    language: placeholder('language'),
    country: placeholder('country'),
    isActive: true,
    isVerified: true,
    lastLogin: thisSecond,
    createdAt: utcNow,
    updatedAt: utcNow
  }).onConflictDoNothing({ target: users.phoneNumber }).returning(columns).prepare(db.statementName('register'))

  return {
    /** What sending a code needs to know of the account of a number. */
    async findByPhone (phone: string) {
      return (await byPhone.execute({ phone }))[0]
    },

    async findById (id: number): Promise<User | undefined> {
      return (await byId.execute({ id }))[0]
    },

    /**
     * Signs the owner of a number in: one statement for a known number. The INSERT takes an id from the sequence even
     * where it conflicts, so it only runs once nothing was found.
     * Throws rate_limited where last_login is too far ahead of the clock.
     */
    async login (phone: string, market: MarketId): Promise<{ user: User, isNew: boolean }> {
      const { language, country } = markets[market]
      for (let tries = 0; tries < maxTries; tries++) {
        const [known] = await login.execute({ phone, market })
        if (known) return { user: known, isNew: false }
        const [ahead] = await lead.execute({ phone })
        if (ahead && !ahead.isFarAhead) {
          throw problem('rate_limited', { retryAfter: Math.floor(ahead.seconds) - maxLeadSeconds + 1 })
        }
        const [row] = ahead
          ? await loginFarAhead.execute({ phone, market })
          : await register.execute({ phone, market, language, country })
        if (row) return { user: row, isNew: !ahead }
      }
      throw problem('unavailable')
    },

    /** Writes the given fields; undefined where the row is gone. */
    async update (id: number, { fullName, profileImageUrl, language }: UserChanges): Promise<User | undefined> {
      const [user] = await db.inTurn(id, (tx) => tx.update(users).set({ fullName, profileImageUrl, language, updatedAt: utcNow })
        .where(eq(users.id, id)).returning(columns))
      return user
    },

    /**
     * Ends all logins of a user inside `tx`; returns undefined if there is no row. It moves last_login by a microsecond, so
     * that no token equals it, not even when another system sets is_active to TRUE. The last_login that is returned has
     * milliseconds only: it is the one that ended.
     */
    async logout (tx: Transaction, id: number) {
      const lastLogin = sql`${users.lastLogin} + interval '1 microsecond'`
      const [user] = await tx.update(users).set({ isActive: false, lastLogin, updatedAt: utcNow })
        .where(eq(users.id, id)).returning({ phone: users.phoneNumber, lastLogin: users.lastLogin })
      return user
    },

    /** Deletes a user inside `tx`, addresses along with it. Throws account_in_use where another table points at the row. */
    async remove (tx: Transaction, id: number) {
      try {
        // A deferred constraint would only be checked by the COMMIT, after the codes are gone.
        await tx.execute(sql`SET CONSTRAINTS ALL IMMEDIATE`)
        const [user] = await tx.delete(users).where(eq(users.id, id)).returning({ phone: users.phoneNumber })
        return user
      } catch (error) {
        throw inUseStates.includes(sqlState(error) ?? '') ? problem('account_in_use') : error
      }
    }
  }
}

interface UserChanges {
  fullName?: string | null | undefined
  profileImageUrl?: string | null | undefined
  language?: Language | undefined
}
