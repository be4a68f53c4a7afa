import type { Redis } from 'ioredis'
import t, { type Test } from 'tap'
import { wrongCode } from '../helpers/responses.js'
import { monitoredRedis } from '../helpers/monitor.js'
import { newPhone, testService, type Service } from '../helpers/service.js'

/** Every cell of every table of a database as text, including tables that are not of the service. */
async function cells ({ sql }: Pick<Service, 'sql'>) {
  const columns = await sql(`SELECT table_schema AS schema, table_name AS "table", column_name AS column
    FROM information_schema.columns JOIN information_schema.tables USING (table_schema, table_name)
    WHERE table_type = 'BASE TABLE' AND table_schema NOT IN ('pg_catalog', 'information_schema')`)
  const found: Array<{ where: string, text: string }> = []
  for (const { schema, table, column } of columns) {
    const rows = await sql(
      `SELECT "${column}"::text AS text FROM "${schema}"."${table}" WHERE "${column}" IS NOT NULL`)
    for (const { text } of rows) found.push({ where: `${table}.${column}`, text })
  }
  return found
}

const contents: Record<string, (redis: Redis, key: string) => Promise<unknown>> = {
  string: (redis, key) => redis.get(key),
  hash: (redis, key) => redis.hgetall(key),
  list: (redis, key) => redis.lrange(key, 0, -1),
  set: (redis, key) => redis.smembers(key),
  zset: (redis, key) => redis.zrange(key, '0', '-1', 'WITHSCORES'),
  stream: (redis, key) => redis.xrange(key, '-', '+')
}

/** Every key of a Redis with its TTL in milliseconds, and as text: its name, its contents and the bytes of a dump. */
async function keys (redis: Redis) {
  const found: Array<{ key: string, ttl: number, text: string }> = []
  let cursor = '0'
  do {
    const [next, names] = await redis.scan(cursor)
    for (const key of names) {
      const read = contents[await redis.type(key)]
      if (!read) throw new Error('a key of an unknown type')
      const dump = (await redis.dumpBuffer(key))?.toString('latin1')
      const text = [key, JSON.stringify(await read(redis, key)), dump].join('\n')
      found.push({ key, ttl: await redis.pttl(key), text })
    }
    cursor = next
  } while (cursor !== '0')
  return found
}

/** Returns a function that finds secrets in a text, in every form. A code counts only if no digit adjoins it. */
function traces ({ phone, codes, tokens }: { phone: string, codes: string[], tokens: string[] }) {
  const national = phone.replace(/^\+(996|1)/, '')
  const words = [
    national,
    national.slice(0, 3) + ' ' + national.slice(3),
    ...[phone, national].map((text) => Buffer.from(text).toString('base64url')),
    ...tokens.flatMap((token) => [token, ...token.split('.')])
  ]
  return (text: string) => [
    ...words.filter((word) => text.includes(word)),
    ...codes.filter((code) => new RegExp(`(?<![0-9])${code}(?![0-9])`).test(text))
  ]
}

/** Uses an account in two sessions. At the end the person is signed out, and a code is live. */
async function useAll (service: Service & { wait: () => void }) {
  const phone = newPhone()
  const codes: string[] = []
  const tokens: string[] = []
  for (let logins = 0; logins < 2; logins++) {
    service.wait()
    await service.send(phone)
    const code = service.codeOf(phone)
    codes.push(code)
    await service.verify(phone, wrongCode(code))
    const { body: { access_token: token } } = await service.verify(phone, code)
    tokens.push(token)
    for (const path of ['/api/v1/users/me', '/api/v1/auth/verify-token']) {
      if ((await service.request('GET', path, { token })).status !== 200) throw new Error('the login has not succeeded')
    }
    await service.request('PATCH', '/api/v1/users/me', { token, body: { full_name: 'A name', language: 'en' } })
    await service.request('POST', '/api/v1/profile/addresses',
      { token, body: { title: 'Home', full_address: 'Chuy 1' } })
    await service.request('POST', '/api/v1/auth/logout', { token })
  }
  service.wait()
  await service.send(phone)
  codes.push(service.codeOf(phone))
  return { phone, codes, tokens }
}

/** A service whose clock moves on by a minute with each `wait`. */
async function serviceOnClock (t: Test, options: Parameters<typeof testService>[1] = {}) {
  let later = 0
  const service = await testService(t, { ...options, overrides: { clock: () => Date.now() + later } })
  return { ...service, wait: () => { later += 60_000 } }
}

t.test('no table contains a token or a code, and only users.phone_number contains the number', async (t) => {
  const service = await serviceOnClock(t)
  const used = await useAll(service)
  const show = traces(used)
  const all = await cells(service)
  for (const column of ['user_addresses.title', '__drizzle_migrations.hash']) {
    t.ok(all.some(({ where }) => where === column), `${column} is searched`)
  }
  t.strictSame(all.filter(({ text }) => show(text).length > 0).map(({ where }) => where), ['users.phone_number'])
})

t.test('no key or value of Redis contains a token, a code, a number or a client IP; every key has a TTL', async (t) => {
  const service = await serviceOnClock(t)
  const used = await useAll(service)
  const show = traces(used)
  const all = await keys(service.redis)
  t.ok(all.length > 0)
  for (const { key, ttl, text } of all) {
    t.ok(ttl > 0, `${key} has a TTL`)
    t.strictSame(show(text), [], key)
    t.notMatch(text, /127\.0\.0\.1/)
  }
})

t.test('after a login Redis has no code', async (t) => {
  const service = await serviceOnClock(t)
  const phone = newPhone()
  await service.login(phone)
  const { key } = (await keys(service.redis)).find(({ key }) => key.startsWith('phone-auth:code:')) as { key: string }
  t.strictSame(await service.redis.hmget(key, 'n', 'd', 'a', 'f', 'x'), [null, null, null, null, null])
})

t.test('a service with another CODE_SECRET does not accept live codes', async (t) => {
  const service = await serviceOnClock(t)
  const phone = newPhone()
  await service.send(phone)
  const redis = { url: service.env.REDIS_URL as string, redis: service.redis }
  const other = await testService(t, { database: service.database, redis })
  other.confidential.add(phone)
  const { status, body } = await other.verify(phone, service.codeOf(phone))
  t.strictSame([status, body.code, body.attempts_remaining], [400, 'invalid_code', undefined])
})

t.test('no Redis command of a login contains a number, a code or a token', async (t) => {
  const redis = await monitoredRedis(t)
  const used = await useAll(await serviceOnClock(t, { redis }))
  const seen = await redis.take()
  t.ok(seen.filter(([command]) => /^eval(sha)?$/i.test(command as string)).length >= 7, 'three sends and four guesses')
  const show = traces(used)
  t.strictSame(seen.flatMap((args) => args).filter((arg) => show(arg).length > 0), [])
})
