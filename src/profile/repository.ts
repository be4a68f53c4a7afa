import { and, count, desc, eq, getTableColumns, ne, sql } from 'drizzle-orm'
import { batched } from '../db/batch.js'
import { userAddresses as addresses, users, utcNow } from '../db/schema.js'
import { Problem } from '../http/problems.js'
import type { Database, Transaction } from '../db/database.js'

export type Address = typeof addresses.$inferSelect
type NewAddress = typeof addresses.$inferInsert
type Own = 'id' | 'userId' | 'createdAt' | 'updatedAt'
/** The fields to write. An undefined field stays as it is. */
export type AddressFields = { [F in Exclude<keyof NewAddress, Own>]?: NewAddress[F] | undefined }
type RequiredFields = Pick<NewAddress, 'title' | 'fullAddress' | 'country'>
export type AddressesRepository = ReturnType<typeof addressesRepository>

const maxAddresses = 50
/** Lists that one statement reads, so one turn of the event loop handles at most 1,600 addresses. */
const maxLists = 32

const columns = Object.entries(getTableColumns(addresses))
const names = columns.map(([name]) => name)
/** A row as one JSON value: PostgreSQL writes it and pg reads it in half the time of separate columns. */
const row = sql<unknown[]>`json_build_array(${sql.join(columns.map(([, column]) => sql`${column}`), sql`, `)})`
function toAddress (values: unknown[]): Address {
  const address: Record<string, unknown> = {}
  names.forEach((name, i) => { address[name] = values[i] })
  return address as Address
}

/** The addresses of each user, at most 50. If a user has addresses, exactly one of them is the default. */
export function addressesRepository (db: Database) {
  const { placeholder } = sql
  const newestFirst = [desc(addresses.createdAt), desc(addresses.id)]
  const own = (userId: number, id: number) => and(eq(addresses.userId, userId), eq(addresses.id, id))

  const order = sql`${addresses.isDefault} DESC, ${sql.join(newestFirst, sql`, `)}`
  const rows = sql<unknown[][]>`json_agg(${row} ORDER BY ${order})`
  const lists = db.select({ userId: addresses.userId, rows }).from(addresses)
    .where(sql`${addresses.userId} = ANY(${placeholder('userIds')}::bigint[])`).groupBy(addresses.userId)
    .prepare(db.statementName('addresses_of_users'))
  const findList = batched(maxLists, db.pool.options.max, async (userIds) => {
    const found = await lists.execute({ userIds: `{${userIds.join()}}` })
    return Object.fromEntries(found.map(({ userId, rows }) => [userId, rows]))
  })
  const one = db.select({ row }).from(addresses)
    .where(and(eq(addresses.userId, placeholder('userId')), eq(addresses.id, placeholder('id'))))
    .prepare(db.statementName('address_of_user'))

  /** Runs `work` while no other request changes the addresses of this user. The lock is the row of the user. */
  const exclusively = <T>(userId: number, work: (tx: Transaction) => Promise<T>) => db.inTurn(userId, async (tx) => {
    const [user] = await tx.select({ id: users.id }).from(users).where(eq(users.id, userId)).for('update')
    if (!user) throw new Problem('invalid_token')
    return work(tx)
  })

  /** Clears the default of every other address. Must run before a new default is set: a user never has two. */
  const clearDefault = (tx: Transaction, userId: number, exceptId = 0) =>
    tx.update(addresses).set({ isDefault: false, updatedAt: utcNow })
      .where(and(eq(addresses.userId, userId), eq(addresses.isDefault, true), ne(addresses.id, exceptId)))

  return {
    /** All addresses of a user: the default first, then the newest first. */
    async list (userId: number): Promise<Address[]> {
      const rows = await new Promise<unknown[][]>((resolve, reject) => {
        findList(userId, (error, found = []) => error ? reject(error) : resolve(found))
      })
      return rows.map(toAddress)
    },

    /** Throws not_found for an id that is not an address of the user. */
    async get (userId: number, id: number): Promise<Address> {
      const [found] = await one.execute({ userId, id })
      if (!found) throw new Problem('not_found')
      return toAddress(found.row)
    },

    /** Throws address_limit. */
    create: (userId: number, fields: AddressFields & RequiredFields): Promise<Address> =>
      exclusively(userId, async (tx) => {
        const [{ total } = { total: 0 }] = await tx.select({ total: count() }).from(addresses)
          .where(eq(addresses.userId, userId))
        if (total >= maxAddresses) throw new Problem('address_limit')
        const isDefault = total === 0 || fields.isDefault === true
        if (isDefault) await clearDefault(tx, userId)
        const [created] = await tx.insert(addresses)
          .values({ ...fields, userId, isDefault, createdAt: utcNow, updatedAt: utcNow }).returning({ row })
        return toAddress(created?.row as unknown[])
      }),

    /** Throws not_found. `isDefault: false` changes nothing: only another address can take over the default. */
    update: (userId: number, id: number, { isDefault, ...fields }: AddressFields): Promise<Address> =>
      exclusively(userId, async (tx) => {
        if (isDefault) await clearDefault(tx, userId, id)
        const [changed] = await tx.update(addresses)
          .set({ ...fields, ...(isDefault && { isDefault }), updatedAt: utcNow })
          .where(own(userId, id)).returning({ row })
        if (!changed) throw new Problem('not_found')
        return toAddress(changed.row)
      }),

    /** Deletes an address. The newest remaining address takes over the default. Throws not_found. */
    remove: (userId: number, id: number): Promise<void> => exclusively(userId, async (tx) => {
      const [deleted] = await tx.delete(addresses).where(own(userId, id)).returning({ wasDefault: addresses.isDefault })
      if (!deleted) throw new Problem('not_found')
      if (!deleted.wasDefault) return
      const [newest] = await tx.select({ id: addresses.id }).from(addresses).where(eq(addresses.userId, userId))
        .orderBy(...newestFirst).limit(1)
      if (!newest) return
      await tx.update(addresses).set({ isDefault: true, updatedAt: utcNow }).where(eq(addresses.id, newest.id))
    })
  }
}
