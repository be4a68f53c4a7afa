import type { FastifyInstance } from 'fastify'
import t, { type Test } from 'tap'
import { SmsRefused } from '../../src/messages/index.js'
import { wrongCode } from '../helpers/responses.js'
import { monitoredRedis } from '../helpers/monitor.js'
import { newPhone, testService, type TestResponse, type Service } from '../helpers/service.js'

const states = ['known', 'inactive', 'unverified', 'deleted', 'unknown'] as const

/** One number per state of an account. Every existing account has another language than its market. */
async function numbers (service: Service) {
  const phones = Object.fromEntries(states.map((state) => [state, newPhone()])) as Record<typeof states[number], string>
  for (const state of ['known', 'inactive', 'deleted'] as const) {
    const { token } = await service.login(phones[state])
    await service.request('PATCH', '/api/v1/users/me', { token, body: { language: 'ky', full_name: 'A B' } })
    if (state === 'inactive') await service.request('POST', '/api/v1/auth/logout', { token })
    if (state === 'deleted') await service.request('DELETE', '/api/v1/users/me', { token })
  }
  await service.sql("INSERT INTO users (phone_number, language) VALUES ($1, 'ky')", [phones.unverified])
  await service.redis.del(await service.redis.keys('phone-auth:code:*'))
  return phones
}

/** The texts of the statements that the service sends to PostgreSQL. */
function statements (app: FastifyInstance) {
  const seen: string[] = []
  const { pool } = app.db
  const query = pool.query.bind(pool) as (...args: unknown[]) => unknown
  Object.assign(pool, {
    query: (statement: string | { text: string }, ...rest: unknown[]) => {
      seen.push(typeof statement === 'string' ? statement : statement.text)
      return query(statement, ...rest)
    }
  })
  return { take: () => seen.splice(0) }
}

/** The parts of a response that a client sees, without the number and what differs between any two responses. */
function seenByClient ({ status, headers, body }: TestResponse) {
  const { phone_number: phone, request_id: id, ...rest } = body
  const counting = ['date', 'x-request-id', 'ratelimit-remaining', 'ratelimit-reset']
  return {
    status,
    headers: Object.fromEntries(
      [...headers].map(([name, value]) => [name, counting.includes(name) ? typeof value : value])),
    body: { ...rest, phone_number: typeof phone, request_id: typeof id }
  }
}

/** A service whose provider refuses on demand, with the response and the work for each number. */
async function watchedService (t: Test, env: Record<string, string> = {}) {
  const provider = { isRefusing: false }
  const now = Date.now()
  const monitored = await monitoredRedis(t)
  const service: Service = await testService(t, {
    env,
    redis: monitored,
    overrides: {
      clock: () => now,
      sms: async (message) => {
        if (provider.isRefusing) throw new SmsRefused()
        service.sms.push(message)
      }
    }
  })
  const phones = await numbers(service)
  const sql = statements(service.app)
  /** The names of the commands since the last call. The first run of a script in a process contains its text. */
  const commands = async () =>
    (await monitored.take()).map(([name]) => name?.toLowerCase().replace(/^eval$/, 'evalsha'))
  await commands()
  return {
    service,
    provider,
    async forgetSends () {
      await service.redis.del(await service.redis.keys('phone-auth:code:*'))
      await commands()
    },
    async isAlike (t: Test, act: (phone: string) => Promise<TestResponse>, expected: object) {
      const seen: Record<string, unknown> = {}
      for (const state of states) {
        const response = seenByClient(await act(phones[state]))
        t.match(response, expected, state)
        seen[state] = { response, sql: sql.take(), redis: await commands() }
      }
      for (const state of states) t.strictSame(seen[state], seen.unknown, `${state} and unknown numbers look the same`)
    }
  }
}

t.test('neither the response to a send nor its work reveals anything about the account', async (t) => {
  const { service: { send, verify, codeOf, request }, provider, isAlike, forgetSends } = await watchedService(t)
  const guess = (phone: string) => verify(phone, '000000')

  await isAlike(t, guess, { status: 400, body: { code: 'invalid_code', attempts_remaining: undefined } })
  await isAlike(t, send, { status: 200, body: { success: true, language: 'ru' } })
  await isAlike(t, send, { status: 429, body: { code: 'resend_too_soon', retry_after: 60 } })
  await isAlike(t, (phone) => verify(phone, wrongCode(codeOf(phone))),
    { status: 400, body: { code: 'invalid_code', attempts_remaining: 4 } })
  await forgetSends()
  await isAlike(t, (phone) => request('POST', '/auth/send-verification', { body: { phone, language: 'en' } }),
    { status: 200, body: { language: 'en' } })
  await forgetSends()
  await isAlike(t,
    (phone) => request('POST', '/auth/send-verification', { body: { phone }, headers: { 'accept-language': 'ky' } }),
    { status: 200, body: { language: 'ky' } })
  await forgetSends()
  provider.isRefusing = true
  await isAlike(t, send, { status: 502, body: { code: 'sms_failed' } })
})

t.test('the same is true with SMS_GUARD=off and SMS_GUARD=observe', async (t) => {
  for (const mode of ['off', 'observe']) {
    const { service: { send }, isAlike } = await watchedService(t, { SMS_GUARD: mode, SMS_GUARD_BLOCK_SENDS: '1000' })
    await isAlike(t, send, { status: 200 })
  }
})
