import { existsSync, symlinkSync } from 'node:fs'
import pg from 'pg'
import { migrate } from '../../src/db/migrate.js'
import { startRedis, startTestPostgres } from '../../test/helpers/servers.js'
import { productionEnv } from '../../test/helpers/service.js'
import type { Env } from './children.js'
import { atEnd } from './ending.js'

/** As safe against a power cut as in production, unlike the server of the tests. */
const flags = [
  'fsync=on', 'full_page_writes=on', 'synchronous_commit=on', 'shared_buffers=512MB', 'max_wal_size=4GB', 'random_page_cost=1.1'
].flatMap((setting) => ['-c', setting])

export const usersSeeded = 100_000

/** A database with users, and the environment of a service that uses it. */
export interface Seeded {
  env: Env
  /** The number of users. Ids begin at 1, phone numbers at firstPhone. */
  users: number
  /** The last_login of every user, in seconds since the epoch. */
  issuedAt: number
}

/** The national number of the first user; 1,000,000 follow. */
export const firstPhone = 996_555_000_000

export type Stores = Awaited<ReturnType<typeof startStores>>

/** Starts PostgreSQL and Redis. */
export async function startStores () {
  if (!existsSync('build/drizzle')) symlinkSync('../drizzle', 'build/drizzle')
  const postgres = await startTestPostgres({ flags })
  atEnd(postgres.remove)
  const redis = await startRedis()
  atEnd(redis.stop)
  let databases = 0

  return {
    redisUrl: redis.url,

    /** The size of the users table of a database, indexes included. */
    async bytesOfUsers ({ env }: Seeded): Promise<number> {
      const client = new pg.Client({ connectionString: env.DATABASE_URL })
      await client.connect()
      const { rows: [row] } = await client.query<{ bytes: string }>("SELECT pg_total_relation_size('users') AS bytes")
      await client.end()
      return Number(row?.bytes)
    },

    /** Makes a database in which every user is active, verified, signed in, and has the given number of addresses. */
    async seed (users: number, addressesEach = 0): Promise<Seeded> {
      const name = `bench_${++databases}`
      const url = postgres.url.replace(/postgres$/, name)
      const admin = new pg.Client({ connectionString: postgres.url })
      await admin.connect()
      await admin.query(`CREATE DATABASE ${name}`)
      await admin.end()
      await migrate(url)
      const issuedAt = Math.floor(Date.now() / 1000)
      const client = new pg.Client({ connectionString: url })
      await client.connect()
      await client.query(`
        INSERT INTO users (phone_number, full_name, is_active, is_verified, last_login)
        SELECT '+' || n, 'User ' || n, true, true, to_timestamp(${issuedAt}) AT TIME ZONE 'utc'
        FROM generate_series(${firstPhone}, ${firstPhone + users - 1}) n`)
      await client.query(`
        INSERT INTO user_addresses (user_id, title, full_address, street, building, city, country, is_default, created_at, updated_at)
        SELECT id, 'Address ' || n, 'Chuy avenue ' || n || ', Bishkek', 'Chuy avenue', n, 'Bishkek', 'Kyrgyzstan', n = 1, now(), now()
        FROM users, generate_series(1, ${addressesEach}) n`)
      await client.query('VACUUM ANALYZE')
      await client.query('CHECKPOINT')
      await client.end()
      return { env: { ...productionEnv(url, redis.url), LOG_LEVEL: 'info', METRICS_PORT: '9464' }, users, issuedAt }
    }
  }
}
