import { and, eq, isNull, not, or, sql } from 'drizzle-orm'
import { users, utcNow } from '../db/schema.js'
import { Problem } from '../http/problems.js'
import { markets, type Language, type MarketId } from '../phone/markets.js'
import type { Database, Transaction } from '../db/database.js'
import { sqlState } from '../db/errors.js'

export type User = typeof users.$inferSelect
export type UsersRepository = ReturnType<typeof usersRepository>

/** foreign_key_violation; from PostgreSQL 18 on, also restrict_violation. */
const inUseStates = ['23503', '23001']

/**
 * The last_login that a login writes, in whole seconds: this second, or one second after a previous login that was
 * logged out within this second. So no revoked token has it. A fraction of a second comes from a logout or from another
 * system, also if is_active is TRUE again. All statements of this file run on Citus with `users` as a reference table:
 * no clock in a CASE or after RETURNING.
 */
const nextLogin = sql`greatest(date_trunc('second', ${utcNow}), date_trunc('second', ${users.lastLogin} +
  CASE WHEN ${users.isActive} THEN interval '0.999999 seconds' ELSE interval '1 second' END))`

/**
 * Many logins and logouts within a second move last_login ahead of the clock. At 30 s a login is refused, because a
 * token that starts more than 60 s ahead is invalid. A value more than 60 s ahead comes from another system and counts
 * as now.
 */
const maxLeadSeconds = 30
const isAhead = sql`${users.lastLogin} >= ${utcNow} + interval '30 seconds'`
const isFarAhead = sql`${users.lastLogin} > ${utcNow} + interval '60 seconds'`
/** How often a login starts over when other requests change the row between its statements. */
const maxTries = 5
const thisSecond = sql`date_trunc('second', ${utcNow})`

/** All reads and writes of the users table, except for the active check. */
export function usersRepository (db: Database) {
  // Columns by name: the table of an earlier system may have more columns.
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

  const ofPhone = eq(users.phoneNumber, placeholder('phone'))
  const byId = db.select(columns).from(users).where(eq(users.id, placeholder('id')))
    .prepare(db.statementName('user_by_id'))
  const byPhone = db.select({
    id: users.id, language: users.language, isVerified: users.isVerified, lastLogin: users.lastLogin
  }).from(users).where(ofPhone).prepare(db.statementName('user_by_phone'))

  const signedIn = { isActive: true, isVerified: true, updatedAt: utcNow, market: sql`${placeholder('market')}` }
  const login = db.update(users).set({ ...signedIn, lastLogin: nextLogin })
    .where(and(ofPhone, or(isNull(users.lastLogin), not(isAhead))))
    .returning(columns).prepare(db.statementName('login'))
  const loginFarAhead = db.update(users).set({ ...signedIn, lastLogin: thisSecond })
    .where(and(ofPhone, isFarAhead)).returning(columns).prepare(db.statementName('login_far_ahead'))
  // `least` makes an infinite last_login finite: PostgreSQL before 17 cannot subtract from infinity.
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
    /** Returns what a send needs of the account of a number; undefined without an account. */
    async findByPhone (phone: string) {
      return (await byPhone.execute({ phone }))[0]
    },

    async findById (id: number): Promise<User | undefined> {
      return (await byId.execute({ id }))[0]
    },

    /**
     * Signs in the owner of a number, with one statement if the number has an account. An INSERT takes an id from the
     * sequence even if it conflicts, so it runs only after no row was found. Throws rate_limited if last_login is too
     * far ahead of the clock, and unavailable if other requests keep changing the row.
     */
    async login (phone: string, market: MarketId): Promise<{ user: User, isNew: boolean }> {
      const { language, country } = markets[market]
      for (let tries = 0; tries < maxTries; tries++) {
        const [known] = await login.execute({ phone, market })
        if (known) return { user: known, isNew: false }
        const [ahead] = await lead.execute({ phone })
        if (ahead && !ahead.isFarAhead) {
          throw new Problem('rate_limited', { retryAfter: Math.floor(ahead.seconds) - maxLeadSeconds + 1 })
        }
        const [row] = ahead
          ? await loginFarAhead.execute({ phone, market })
          : await register.execute({ phone, market, language, country })
        if (row) return { user: row, isNew: !ahead }
      }
      throw new Problem('unavailable')
    },

    /** Writes the fields that are not undefined. Returns undefined if the row does not exist. */
    async update (id: number, { fullName, profileImageUrl, language }: UserChanges): Promise<User | undefined> {
      const [user] = await db.inTurn(id, (tx) => tx.update(users)
        .set({ fullName, profileImageUrl, language, updatedAt: utcNow })
        .where(eq(users.id, id)).returning(columns))
      return user
    },

    /**
     * Signs a user out inside `tx`. Moves last_login forward by one microsecond, so no token equals it, even if another
     * system sets is_active to TRUE again. Returns undefined without a row. The returned last_login has milliseconds
     * only, so it is the value before.
     */
    async logout (tx: Transaction, id: number) {
      const lastLogin = sql`${users.lastLogin} + interval '1 microsecond'`
      const [user] = await tx.update(users).set({ isActive: false, lastLogin, updatedAt: utcNow })
        .where(eq(users.id, id)).returning({ phone: users.phoneNumber, lastLogin: users.lastLogin })
      return user
    },

    /** Deletes a user and their addresses inside `tx`. Throws account_in_use if another table refers to the row. */
    async remove (tx: Transaction, id: number) {
      try {
        // The COMMIT would check a deferred constraint too late, after the codes were deleted.
        await tx.execute(sql`SET CONSTRAINTS ALL IMMEDIATE`)
        const [user] = await tx.delete(users).where(eq(users.id, id)).returning({ phone: users.phoneNumber })
        return user
      } catch (error) {
        throw inUseStates.includes(sqlState(error) ?? '') ? new Problem('account_in_use') : error
      }
    }
  }
}

interface UserChanges {
  fullName?: string | null | undefined
  profileImageUrl?: string | null | undefined
  language?: Language | undefined
}
