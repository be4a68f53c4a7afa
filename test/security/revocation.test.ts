import t from 'tap'
import { memoryRevocations } from '../../src/auth/tokens/revocations.js'
import { claimsOf, mint } from '../helpers/forge.js'
import { monitoredRedis } from '../helpers/monitor.js'
import { startRedis } from '../helpers/servers.js'
import { newPhone, testDatabase, testRedis, testService, type Service } from '../helpers/service.js'
import { Redis } from 'ioredis'

const passes = async (service: Service, token: string) =>
  (await service.request('GET', '/auth/verify-token', { token })).status
const logout = async (service: Service, token: string) =>
  (await service.request('POST', '/auth/logout', { token })).status
const iatOf = (token: string) => claimsOf(token).iat

/** Two replicas on the same stores, with a cooldown of one second. */
async function replicas (t: Parameters<typeof testService>[0], clock = Date.now) {
  const first = await testService(t, {
    overrides: { clock }, env: { CODE_RESEND_SECONDS: '1', CODE_SENDS_PER_HOUR: '1000', CODE_SENDS_PER_DAY: '1000' }
  })
  const { JWT_SECRET, CODE_SECRET } = first.env
  const second = await testService(t, {
    overrides: { clock },
    database: first.database,
    redis: { url: first.env.REDIS_URL as string, redis: first.redis },
    env: { ...first.env, JWT_SECRET, CODE_SECRET } as Record<string, string>
  })
  return [first, second] as const
}

/** Moves last_login and the revocation into the past instead of waiting; into the future with a negative number. */
async function shift (service: Service, userId: number, seconds: number) {
  await service.sql('UPDATE users SET last_login = last_login - make_interval(secs => $2) WHERE id = $1',
    [userId, seconds])
  const revocation = await service.redis.get(`phone-auth:logout:${userId}`)
  const shifted = revocation?.split(' ').map((until) => Number(until) - seconds)
  if (shifted) await service.redis.set(`phone-auth:logout:${userId}`, shifted.join(' '), 'KEEPTTL')
}

/** Deletes the code with its cooldown instead of waiting. */
const cool = async (service: Service) => {
  for (const key of await service.redis.keys('phone-auth:code:*')) await service.redis.del(key)
}

for (const [when, seconds] of [['within the same second', 0], ['1 s later', 1], ['2 s later', 2], ['60 s later', 60],
  ['with the clock of the database set back 20 s in between', -20]] as const) {
  t.test(`a login ${when} does not revive a logged-out token`, async (t) => {
    // The clock of the service stays. Rows that move ahead act like a database clock that is set back.
    let behindMs = 0
    const [first, second] = await replicas(t, () => Date.now() + behindMs)
    const phone = newPhone()
    const { user, token } = await first.login(phone)
    // The first token as if it had been minted before the shift.
    const old = mint({
      user_id: user.id, market: 'kg', iat: iatOf(token) - seconds, exp: iatOf(token) - seconds + 1800
    }, first.env.JWT_SECRET as string)
    t.equal(await logout(first, token), 200)
    await shift(first, user.id, seconds)
    behindMs = Math.max(0, -seconds * 1000)
    await cool(first)
    const next = await first.login(phone)
    t.ok(iatOf(next.token) > iatOf(old))
    for (const replica of [first, second]) {
      t.equal(await passes(replica, old), 401, 'the first token stays dead')
      t.equal(await passes(replica, next.token), 200, 'the second token works')
    }
    await cool(first)
    const later = await second.login(phone)
    t.equal(await passes(first, old), 401, 'a third login does not revive it either')
    t.equal(await passes(first, next.token), 200, 'the second token still works')
    t.equal(await passes(first, later.token), 200)
  })
}

t.test('a second device does not sign out the first; a logout on one signs out both', async (t) => {
  const [first, second] = await replicas(t)
  const phone = newPhone()
  const phoneOne = await first.login(phone)
  await shift(first, phoneOne.user.id, 0)
  await cool(first)
  const phoneTwo = await second.login(phone)
  t.strictSame([await passes(first, phoneOne.token), await passes(second, phoneTwo.token)], [200, 200])
  t.equal(await logout(second, phoneOne.token), 200)
  t.strictSame([await passes(first, phoneOne.token), await passes(first, phoneTwo.token)], [401, 401])
  t.equal(await logout(first, phoneTwo.token), 401, 'the second device is signed out')
  await cool(first)
  const { token } = await first.login(phone)
  t.strictSame([
    await passes(second, phoneOne.token), await passes(second, phoneTwo.token), await passes(second, token)
  ], [401, 401, 200])
})

t.test('the revocation of a logout lives one minute longer than a session', async (t) => {
  const service = await testService(t, { env: { SESSION_MAX_SECONDS: '86400' } })
  const { user, token } = await service.login(newPhone())

  await logout(service, token)
  t.equal(await service.redis.get(`phone-auth:logout:${user.id}`), `${iatOf(token)} 0`)
  const ttl = await service.redis.ttl(`phone-auth:logout:${user.id}`)
  t.ok(ttl > 86_400 && ttl <= 86_460)
})

t.test('a token of an earlier backend that is newer than last_login is dead after its own logout', async (t) => {
  const [service] = await replicas(t)
  const phone = newPhone()
  const { user, token } = await service.login(phone)
  await service.sql("UPDATE users SET last_login = last_login - interval '20 minutes' WHERE id = $1", [user.id])
  const legacy = mint({ user_id: user.id, market: 'kg', exp: iatOf(token) + 1790 }, service.env.JWT_SECRET as string)
  t.equal(await passes(service, legacy), 200)
  t.equal(await logout(service, legacy), 200)
  await cool(service)
  await service.sql("UPDATE users SET last_login = last_login - interval '1 minute' WHERE id = $1", [user.id])
  const next = await service.login(phone)
  t.equal(await passes(service, legacy), 401)
  t.equal(await passes(service, next.token), 200)
})

t.test('a logout also ends the sessions of a row without last_login', async (t) => {
  const service = await testService(t)
  const phone = newPhone()
  const { user, token } = await service.login(phone)
  await service.sql('UPDATE users SET last_login = NULL WHERE id = $1', [user.id])
  t.equal(await passes(service, token), 200)
  t.equal(await logout(service, token), 200)
  await service.sql('UPDATE users SET is_active = TRUE WHERE id = $1', [user.id])
  t.equal(await passes(service, token), 401)
})

t.test('a request of the latest session does not read Redis', async (t) => {
  const redis = await monitoredRedis(t)
  const service = await testService(t, { redis })
  const { token, user } = await service.login(newPhone())
  await redis.take()
  for (let i = 0; i < 20; i++) t.equal(await passes(service, token), 200)
  t.strictSame(await redis.take(), [])
  await service.sql("UPDATE users SET last_login = last_login + interval '1 second' WHERE id = $1", [user.id])
  t.equal(await passes(service, token), 200)
  t.match(await redis.take(), [['get']], 'a token of another session costs one read')
})

t.test('without Redis, logout and tokens of earlier sessions are 503, and the latest session works', async (t) => {
  const server = await startRedis()
  const redis = new Redis(server.url)
  redis.on('error', () => {})
  t.teardown(async () => {
    redis.disconnect()
    await server.stop()
  })
  const service = await testService(t, { redis: { url: server.url, redis } })
  const { token, user } = await service.login(newPhone())
  const older = mint({ user_id: user.id, market: 'kg', iat: iatOf(token) - 5, exp: iatOf(token) + 1795 },
    service.env.JWT_SECRET as string)
  await service.sql("UPDATE users SET created_at = created_at - interval '1 hour' WHERE id = $1", [user.id])
  t.equal(await passes(service, older), 200)

  await server.stop()
  const refused = await service.request('POST', '/auth/logout', { token })
  t.equal(refused.status, 503)
  t.equal(refused.body.code, 'unavailable')
  t.equal(refused.headers.get('retry-after'), String(refused.body.retry_after))
  t.equal(await passes(service, token), 200, 'still signed in')
  t.strictSame(await service.sql('SELECT is_active FROM users WHERE id = $1', [user.id]), [{ is_active: true }])
  t.equal(await passes(service, older), 503, 'never open')
  t.equal((await service.request('DELETE', '/api/v1/users/me', { token })).status, 503)

  const again = await startRedis({ port: server.port })
  t.teardown(() => again.stop())
  while ((await service.request('GET', '/health/ready')).body.status !== 'ok');
  t.equal(await logout(service, token), 200)
  t.equal(await passes(service, token), 401)
})

t.test('with 50 parallel workers, no token from before a logout ever works', { timeout: 90_000 }, async (t) => {
  const database = await testDatabase(t)
  const redis = await testRedis(t)
  const env = { CODE_RESEND_SECONDS: '1', CODE_SENDS_PER_HOUR: '1000', CODE_SENDS_PER_DAY: '1000', LOG_LEVEL: 'error' }
  const first = await testService(t, { database, redis, env })
  const { JWT_SECRET, CODE_SECRET } = first.env as { JWT_SECRET: string, CODE_SECRET: string }
  const second = await testService(t, { database, redis, env: { ...env, JWT_SECRET, CODE_SECRET } })
  // One replica may send the code that the other one redeems.
  const messages = () => [...first.sms, ...second.sms]
  const counts = { requests: 0, refused: 0, logins: 0, logouts: 0, violations: 0, unexpected: 0 }
  // Twenty seconds, longer on a busy machine, until there are enough requests.
  const begin = Date.now()
  const isEnough = () => counts.logins > 20 && counts.logouts > 20 && counts.requests > 500 && counts.refused > 100
  const goesOn = () => Date.now() - begin < 20_000 || (!isEnough() && Date.now() - begin < 60_000)
  /** On a busy machine a store may not respond in time: a 503 admits nobody. */
  const unexpectedly = (status: number, ...expected: number[]) => {
    if (![503, ...expected].includes(status)) counts.unexpected++
  }

  async function worker (phone: string, tokens: Map<string, { isDead: boolean }>) {
    while (goesOn()) {
      const service = Math.random() < 0.5 ? first : second
      const held = [...tokens.keys()]
      const token = held[Math.floor(Math.random() * held.length)]
      const action = Math.random()
      if (action < 0.15 || token === undefined) {
        const sent = await service.send(phone)
        if (sent.status !== 200) {
          unexpectedly(sent.status, 429)
          if (token === undefined) await new Promise((resolve) => setImmediate(resolve))
          continue
        }
        const code = messages().findLast(({ to }) => to === phone)?.text.match(/\d{6}/)?.[0] as string
        const { status, body } = await service.verify(phone, code)
        if (status === 200) {
          counts.logins++
          tokens.set(body.access_token, { isDead: false })
        } else if (body.code !== 'invalid_code') unexpectedly(status)
      } else if (action < 0.2) {
        const before = [...tokens.values()]
        const { status } = await service.request('POST', '/auth/logout', { token })
        if (status === 200) {
          counts.logouts++
          for (const one of before) one.isDead = true
        } else unexpectedly(status, 401)
      } else {
        const wasDead = tokens.get(token)?.isDead
        const status = await passes(service, token)
        counts.requests++
        if (status === 401) counts.refused++
        else unexpectedly(status, 200)
        if (wasDead && status === 200) counts.violations++
      }
    }
  }
  await Promise.all(Array.from({ length: 10 }, () => newPhone()).flatMap((phone) => {
    const tokens = new Map<string, { isDead: boolean }>()
    return Array.from({ length: 5 }, () => worker(phone, tokens))
  }))
  t.match(counts, { violations: 0, unexpected: 0 })
  t.ok(isEnough(), JSON.stringify(counts))
})

t.test('revocations in memory keep the latest two logouts', async (t) => {
  const revocations = memoryRevocations()

  t.strictSame(await revocations.revokedUntil(1), { until: 0, before: 0 })
  for (const lastLogin of [100, 50, 200, 200, 150]) await revocations.revokeUntil(1, lastLogin)
  t.strictSame(await revocations.revokedUntil(1), { until: 200, before: 100 })
})
