import { and, eq, sql } from 'drizzle-orm'
import { users, utcNow } from '../db/schema.js'
import { problem } from '../errors.js'
import { markets, type Language, type MarketId } from '../markets.js'
import { sqlState, type Database, type Transaction } from '../plugins/database.js'

export type User = typeof users.$inferSelect
export type UsersRepository = ReturnType<typeof usersRepository>

/** foreign_key_violation, and restrict_violation since PostgreSQL 18. */
const inUseStates = ['23503', '23001']

/**
 * The second of a login: now, or one more than the login it follows a logout of, so that no token of before carries it.
 * A value so far ahead that its token would be refused (an earlier system wrote local time) is not continued.
 */
const nextLogin = sql`CASE WHEN ${users.lastLogin} <= ${utcNow} + interval '60 seconds'
  THEN greatest(date_trunc('second', ${utcNow}),
    date_trunc('second', ${users.lastLogin}) + CASE WHEN ${users.isActive} THEN interval '0' ELSE interval '1 second' END)
  ELSE date_trunc('second', ${utcNow}) END`

/**
 * How far ahead, in seconds, a login finds the last_login of a test number at most: it logs in and out without waiting, a
 * second further each time, and from 60 s on its tokens would be refused.
 */
const maxLeadSeconds = 30
const isAhead = sql`coalesce(${users.lastLogin} BETWEEN ${utcNow} + make_interval(secs => ${maxLeadSeconds})
  AND ${utcNow} + interval '60 seconds', FALSE)`

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
  const byPhone = db.select({ id: users.id, language: users.language, isVerified: users.isVerified }).from(users)
    .where(eq(users.phoneNumber, placeholder('phone'))).prepare(db.statementName('user_by_phone'))

  // A subselect sees the row as it was before the statement.
  const wasVerified = sql<boolean | null>`(SELECT before.is_verified FROM users before WHERE before.id = users.id)`
  const loggedIn = { isActive: true, isVerified: true, lastLogin: nextLogin, updatedAt: utcNow }
  const login = db.update(users).set({ ...loggedIn, market: sql`${placeholder('market')}` })
    .where(and(eq(users.phoneNumber, placeholder('phone')), sql`NOT (${placeholder('isTest')}::boolean AND ${isAhead})`))
    .returning({ ...columns, wasVerified }).prepare(db.statementName('login'))
  const wait = db.select({ seconds: sql<number>`floor(extract(epoch FROM ${users.lastLogin} - ${utcNow}))::int - ${maxLeadSeconds - 1}` }).from(users)
    .where(and(eq(users.phoneNumber, placeholder('phone')), isAhead)).prepare(db.statementName('login_wait'))
  const register = db.insert(users).values({
    phoneNumber: placeholder('phone'),
    market: placeholder('market'),
    language: placeholder('language'),
    country: placeholder('country'),
    isActive: true,
    isVerified: true,
    lastLogin: sql`date_trunc('second', ${utcNow})`,
    createdAt: utcNow,
    updatedAt: utcNow
  }).onConflictDoUpdate({ target: users.phoneNumber, set: { ...loggedIn, market: sql`excluded.market` } })
    .returning({ ...columns, isNew: sql<boolean>`xmax = 0` }).prepare(db.statementName('register'))

  return {
    /** What sending a code needs to know of the account of a number. */
    async findByPhone (phone: string) {
      return (await byPhone.execute({ phone }))[0]
    },

    async findById (id: number): Promise<User | undefined> {
      return (await byId.execute({ id }))[0]
    },

    /**
     * Signs the owner of a number in; `isFirst` where nobody has logged in with it before.
     * The INSERT runs only where no row came back: its conflict burns an id of the sequence.
     * Throws rate_limited for a test number whose last_login is too far ahead.
     */
    async login (phone: string, market: MarketId, isTest = false): Promise<{ user: User, isNew: boolean, isFirst: boolean }> {
      const [known] = await login.execute({ phone, market, isTest })
      if (known) {
        const { wasVerified, ...user } = known
        return { user, isNew: false, isFirst: wasVerified !== true }
      }
      const [ahead] = isTest ? await wait.execute({ phone }) : []
      if (ahead) throw problem('rate_limited', { retryAfter: ahead.seconds })
      const { language, country } = markets[market]
      const [row] = await register.execute({ phone, market, language, country })
      const { isNew, ...user } = row as User & { isNew: boolean }
      return { user, isNew, isFirst: isNew }
    },

    /** Writes the given fields; undefined where the row is gone. */
    async update (id: number, { fullName, profileImageUrl, language }: UserChanges): Promise<User | undefined> {
      const [user] = await db.update(users).set({ fullName, profileImageUrl, language, updatedAt: utcNow })
        .where(eq(users.id, id)).returning(columns)
      return user
    },

    /** Ends all logins of a user inside `tx`; undefined where the row is gone. */
    async logout (tx: Transaction, id: number) {
      const [user] = await tx.update(users).set({ isActive: false, updatedAt: utcNow })
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

export interface UserChanges {
  fullName?: string | null | undefined
  profileImageUrl?: string | null | undefined
  language?: Language | undefined
}
