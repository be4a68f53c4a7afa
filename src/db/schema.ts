import { sql } from 'drizzle-orm'
import {
  boolean, customType, index, integer, pgTable, serial, timestamp, uniqueIndex, varchar
} from 'drizzle-orm/pg-core'

/**
 * SERIAL, or BIGSERIAL in a table of an earlier system. pg returns BIGSERIAL as text. A token carries ids up to 2^53 -
 * 1.
 */
const userId = customType<{ data: number, driverData: number | string, notNull: true, default: true }>({
  dataType: () => 'serial',
  fromDriver: Number
})

/** TIMESTAMP in UTC, or timestamptz in a table of an earlier system: every connection sets its time zone to UTC. */
const utcTime = customType<{ data: Date, driverData: string }>({
  dataType: () => 'timestamp',
  fromDriver: (value) => new Date(`${value.replace(/\+00$/, '')}+0000`)
})

/** Shared with other systems and taken as found: never add a column here. */
export const users = pgTable('users', {
  id: userId('id').primaryKey(),
  phoneNumber: varchar('phone_number', { length: 20 }).unique('users_phone_number_key').notNull(),
  fullName: varchar('full_name', { length: 255 }),
  profileImageUrl: varchar('profile_image_url', { length: 500 }),
  isActive: boolean('is_active').default(true),
  isVerified: boolean('is_verified').default(false),
  lastLogin: utcTime('last_login'),
  market: varchar('market', { length: 10 }).default('kg'),
  language: varchar('language', { length: 10 }).default('ru'),
  country: varchar('country', { length: 100 }).default('Kyrgyzstan'),
  createdAt: utcTime('created_at').default(sql`now()`),
  updatedAt: utcTime('updated_at').default(sql`now()`)
})

export const userAddresses = pgTable('user_addresses', {
  id: serial('id').primaryKey(),
  userId: integer('user_id').notNull().references(() => users.id, { onDelete: 'cascade' }),
  title: varchar('title', { length: 100 }).notNull(),
  fullAddress: varchar('full_address', { length: 500 }).notNull(),
  street: varchar('street', { length: 200 }),
  building: varchar('building', { length: 50 }),
  apartment: varchar('apartment', { length: 20 }),
  city: varchar('city', { length: 100 }),
  state: varchar('state', { length: 50 }),
  postalCode: varchar('postal_code', { length: 20 }),
  country: varchar('country', { length: 100 }).notNull(),
  isDefault: boolean('is_default').notNull(),
  createdAt: timestamp('created_at', { mode: 'string' }).notNull(),
  updatedAt: timestamp('updated_at', { mode: 'string' }).notNull()
}, (table) => [
  index('user_addresses_user_id_idx').on(table.userId),
  // At most one default address per user, even if the code fails to ensure it.
  uniqueIndex('user_addresses_default_key').on(table.userId).where(sql`${table.isDefault}`)
])

/** The time at which a row is written, in UTC whatever the time zone of server and session. */
export const utcNow = sql`(now() at time zone 'utc')`
