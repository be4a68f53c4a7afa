import { randomBytes } from 'node:crypto'
import type { AddressInfo } from 'node:net'
import type { FastifyInstance } from 'fastify'
import { Redis } from 'ioredis'
import pg from 'pg'
import type { Test } from 'tap'
import { buildApp, type Overrides } from '../../src/app.js'
import type { SmsMessage } from '../../src/messages/index.js'
import { loadConfig } from '../../src/config/index.js'

/** A response body. Each test knows the shape that it expects. */
export type Json = any

export interface TestResponse { status: number, headers: Headers, body: Json }
export interface RequestOptions { token?: string | undefined, body?: unknown, headers?: Record<string, string> }

/** The statement of CONTRACT, section 6: the table of an earlier system. */
export const usersTable = `CREATE TABLE users (
  id SERIAL PRIMARY KEY,
  phone_number VARCHAR(20) UNIQUE NOT NULL,
  full_name VARCHAR(255),
  profile_image_url VARCHAR(500),
  is_active BOOLEAN DEFAULT TRUE,
  is_verified BOOLEAN DEFAULT FALSE,
  last_login TIMESTAMP,
  market VARCHAR(10) DEFAULT 'kg',
  language VARCHAR(10) DEFAULT 'ru',
  country VARCHAR(100) DEFAULT 'Kyrgyzstan',
  created_at TIMESTAMP DEFAULT NOW(),
  updated_at TIMESTAMP DEFAULT NOW()
)`

const required = (name: string) => {
  const value = process.env[name]
  if (!value) throw new Error(`${name} is not set: run the tests by npm test`)
  return value
}

let phones = 0
/** A phone number that no other test of this file uses. */
export const newPhone = (market: 'kg' | 'us' = 'kg') =>
  market === 'kg' ? `+996555${String(100_000 + phones++)}` : `+1312805${String(1000 + phones++)}`

/** A database for one test, empty or a copy of the migrated one. It is dropped at the end. */
export async function testDatabase (t: Test, { isEmpty = false } = {}) {
  const adminUrl = required('TEST_POSTGRES_URL')
  const name = `test_${randomBytes(6).toString('hex')}`
  const admin = async (statement: string) => {
    const client = new pg.Client({ connectionString: adminUrl })
    await client.connect()
    try { await client.query(statement) } finally { await client.end() }
  }
  await admin(`CREATE DATABASE ${name} TEMPLATE ${isEmpty ? 'template1' : 'migrated'}`)
  const url = adminUrl.replace(/postgres$/, name)
  const pool = new pg.Pool({ connectionString: url, max: 5 })
  pool.on('error', () => {})
  t.teardown(async () => {
    await pool.end()
    await admin(`DROP DATABASE ${name} WITH (FORCE)`)
  })
  const sql = async (text: string, values: unknown[] = []): Promise<Json[]> => (await pool.query(text, values)).rows
  return { url, sql }
}

/** A Redis database for one test. It is emptied at the end. */
export async function testRedis (t: Test) {
  const url = required('TEST_REDIS_URL')
  const counter = new Redis(url)
  const index = await counter.incr('test:databases')
  counter.disconnect()
  const redis = new Redis(`${url}/${index}`)
  t.teardown(async () => {
    await redis.flushdb()
    redis.disconnect()
  })
  return { url: `${url}/${index}`, redis }
}

/** An environment of production, with random secrets. */
export const productionEnv = (databaseUrl: string, redisUrl: string): Record<string, string> => ({
  NODE_ENV: 'production',
  HOST: '127.0.0.1',
  PORT: '0',
  LOG_LEVEL: 'trace',
  DRAIN_SECONDS: '0',
  METRICS_PORT: '0',
  DATABASE_URL: databaseUrl,
  REDIS_URL: redisUrl,
  JWT_SECRET: randomBytes(32).toString('base64'),
  CODE_SECRET: randomBytes(32).toString('base64'),
  // All clients of a test share one client IP, a few users and a few number blocks. The limits have tests of their own.
  RATE_LIMIT_IP_MAX: '1000000',
  RATE_LIMIT_IP_GUESSES_PER_HOUR: '1000000',
  RATE_LIMIT_USER_MAX: '1000000',
  SMS_GUARD_BLOCK_SENDS: '1000000',
  SMS_GUARD_MARKET_SENDS: '1000000',
  SMS_GUARD_CLIENT_SENDS: '1000000',
  SMS_PROVIDER: 'webhook',
  SMS_WEBHOOK_URL: 'http://127.0.0.1:9/',
  SMS_WEBHOOK_SECRET: `whsec_${randomBytes(24).toString('base64')}`
})

/** A client of a running service that sends what apps send, and collects what must not appear in a log. */
export function client (url: string, sms: SmsMessage[]) {
  const confidential = new Set<string>()
  const request = async (
    method: string, path: string, { token, body, headers = {} }: RequestOptions = {}
  ): Promise<TestResponse> => {
    const response = await fetch(url + path, {
      method,
      headers: {
        ...(token !== undefined && { authorization: `Bearer ${token}` }),
        ...(body !== undefined && { 'content-type': 'application/json' }),
        ...headers
      },
      ...(body !== undefined && { body: typeof body === 'string' ? body : JSON.stringify(body) })
    })
    const text = await response.text()
    const json = text && JSON.parse(text) as Json
    if (json?.access_token) confidential.add(json.access_token)
    return { status: response.status, headers: response.headers, body: json }
  }
  /** The code in the newest message to a number. */
  const codeOf = (phone: string) => {
    const code = sms.findLast(({ to }) => to === phone)?.text.match(/\d{6}/)?.[0]
    if (!code) throw new Error('no message was sent to this number')
    confidential.add(code).add(phone)
    return code
  }
  const send = (phone: string, more: object = {}) => {
    confidential.add(phone)
    return request('POST', '/api/v1/auth/send-verification', { body: { phone, ...more } })
  }
  const verify = (phone: string, code: string) =>
    request('POST', '/api/v1/auth/verify-code', { body: { phone, verification_code: code } })
  return {
    url,
    confidential,
    request,
    codeOf,
    send,
    verify,
    /** Signs in as an app does. Throws if that fails. */
    async login (phone: string): Promise<{ token: string, user: Json, body: Json }> {
      const sent = await send(phone)
      if (sent.status !== 200) throw new Error(`send-verification responded ${sent.status} ${sent.body.code}`)
      const { status, body } = await verify(phone, codeOf(phone))
      if (status !== 200) throw new Error(`verify-code responded ${status} ${body.code}`)
      return { token: body.access_token, user: body.user, body }
    }
  }
}

/** Throws if a log shows something confidential. Six digits count only if no other word character is next to them. */
export function checkLog (log: string, confidential: Iterable<string>) {
  for (const secret of confidential) {
    const isFound = /^\d{6}$/.test(secret)
      ? new RegExp(`(?<![\\w.-])${secret}(?![\\w.-])`).test(log)
      : log.includes(secret.replace(/^\+/, ''))
    if (isFound) throw new Error(`the log shows a ${/^\+?\d+$/.test(secret) ? 'number or code' : 'token or secret'}`)
  }
}

export type Service = Awaited<ReturnType<typeof testService>>

interface ServiceOptions {
  /** Overrides variables of productionEnv. */
  env?: Record<string, string>
  overrides?: Overrides
  database?: Awaited<ReturnType<typeof testDatabase>>
  redis?: Awaited<ReturnType<typeof testRedis>>
}

/**
 * Opens all connections of the pool one by one: on a busy machine, opening all at once takes longer than the service
 * waits.
 */
export async function openConnections ({ app: { db: { pool } } }: Service) {
  const clients = []
  while (clients.length < pool.options.max) clients.push(await pool.connect())
  for (const client of clients) client.release()
}

/**
 * Starts the whole service on real stores and on 127.0.0.1. At the end it is closed, and its log is searched for
 * secrets.
 */
export async function testService (t: Test, options: ServiceOptions = {}) {
  const database = options.database ?? await testDatabase(t)
  const { url: redisUrl, redis } = options.redis ?? await testRedis(t)
  const env = { ...productionEnv(database.url, redisUrl), ...options.env }
  const sms: SmsMessage[] = []
  const log: string[] = []
  const app: FastifyInstance = await buildApp(loadConfig(env), {
    sms: async (message) => { sms.push(message) },
    logStream: { write (line) { log.push(line) } },
    ...options.overrides
  })
  await app.listen({ host: '127.0.0.1', port: 0 })
  const http = client(`http://127.0.0.1:${(app.server.address() as AddressInfo).port}`, sms)
  t.teardown(async () => {
    await app.close()
    checkLog(log.join(''), [...http.confidential, env.JWT_SECRET as string, env.CODE_SECRET as string])
  })
  return { ...http, app, env, sms, log, redis, sql: database.sql, database }
}
