import pg from 'pg'
import t, { type Test } from 'tap'
import { usersRepository } from '../../src/users/repository.js'
import { problemOf, wrongCode } from '../helpers/responses.js'
import { smsWebhook, startService, until } from '../helpers/server-process.js'
import {
  checkLog, client, newPhone, openConnections, productionEnv, testDatabase, testRedis, testService,
  type Json, type Service, type TestResponse
} from '../helpers/service.js'

/** Starts two processes on the same stores, as replicas behind a load balancer: `each(n)` alternates between them. */
async function twoProcesses (t: Test) {
  const database = await testDatabase(t)
  const { url: redisUrl } = await testRedis(t)
  const { url: smsUrl, sms } = await smsWebhook(t)
  const env = { ...productionEnv(database.url, redisUrl), LOG_LEVEL: 'info', SMS_WEBHOOK_URL: smsUrl }
  const processes = await Promise.all([startService(t, env), startService(t, env)])
  const clients = processes.map(({ url }) => client(url, sms)) as [ReturnType<typeof client>, ReturnType<typeof client>]
  t.teardown(() => {
    for (const { confidential } of clients) checkLog(processes.map(({ stdout }) => stdout).join(''), confidential)
  })
  return { sms, sql: database.sql, first: clients[0], each: (n: number) => clients[n % 2] as ReturnType<typeof client> }
}

const times = <T>(count: number, call: (n: number) => T) => Array.from({ length: count }, (_, n) => call(n))

/** The number of responses of each status and code. */
function tally (responses: TestResponse[]) {
  const counts: Record<string, number> = {}
  for (const { status, body } of responses) {
    const kind = `${status} ${body.code ?? ''}`.trim()
    counts[kind] = (counts[kind] ?? 0) + 1
  }
  return counts
}

const attemptsOf = (responses: TestResponse[]) =>
  responses.map(({ body }) => body.attempts_remaining as number | undefined)
    .filter((left) => left !== undefined).sort((a, b) => b - a)

/** Whether exactly `statements` statements wait for a lock of another transaction. */
async function isWaitedFor ({ sql }: Pick<Service, 'sql'>, statements: number) {
  const [{ waiting }] = await sql(`SELECT count(*)::int AS waiting FROM pg_stat_activity
    WHERE datname = current_database() AND wait_event_type = 'Lock'`) as [Json]
  return waiting === statements
}

t.test('two processes on the same stores', async (t) => {
  const { sms, sql, first, each } = await twoProcesses(t)

  t.test('of 200 right guesses at once one signs in, in 30 rounds of 30', async (t) => {
    for (let round = 0; round < 30; round++) {
      const phone = newPhone()
      await first.send(phone)
      const code = first.codeOf(phone)
      const responses = await Promise.all(times(200, (n) => each(n).verify(phone, code)))
      t.strictSame(tally(responses), { 200: 1, '400 invalid_code': 199 }, `round ${round}`)
      t.strictSame(attemptsOf(responses), [], 'a right code uses up no attempt')
    }
  })

  t.test('of 500 wrong guesses at once five are counted, and the code is dead', async (t) => {
    const phone = newPhone()
    await first.send(phone)
    const code = first.codeOf(phone)
    const wrong = times(501, (n) => String(n).padStart(6, '0')).filter((guess) => guess !== code).slice(0, 500)
    const responses = await Promise.all(wrong.map((guess, n) => each(n).verify(phone, guess)))
    t.strictSame(tally(responses), { '400 invalid_code': 500 })
    t.strictSame(attemptsOf(responses), [4, 3, 2, 1, 0])
    t.strictSame(...problemOf(await first.verify(phone, code), 400, 'Bad Request', 'invalid_code'))
  })

  t.test('one right guess among four wrong ones at once signs in, 100 times of 100', async (t) => {
    for (let round = 0; round < 100; round++) {
      const phone = newPhone()
      await first.send(phone)
      const code = first.codeOf(phone)
      const guess = (n: number) => each(n).verify(phone, n === round % 5 ? code : wrongCode(code))
      const responses = await Promise.all(times(5, guess))
      t.equal(responses[round % 5]?.status, 200, `round ${round}`)
      t.equal(tally(responses)['400 invalid_code'], 4)
    }
  })

  t.test('100 sends to one number at once make one message', async (t) => {
    const phone = newPhone()
    const responses = await Promise.all(times(100, (n) => each(n).send(phone)))
    t.strictSame(tally(responses), { 200: 1, '429 resend_too_soon': 99 })
    t.equal(sms.filter(({ to }) => to === phone).length, 1)
    t.equal((await first.verify(phone, first.codeOf(phone))).status, 200)
  })

  t.test('a code from one process signs in at the other one, and its token works at both', async (t) => {
    const phone = newPhone()
    await each(0).send(phone)
    const { status, body } = await each(1).verify(phone, each(0).codeOf(phone))
    t.equal(status, 200)
    const token = body.access_token as string
    for (const n of [0, 1]) t.equal((await each(n).request('GET', '/api/v1/users/me', { token })).status, 200)
    t.equal((await each(0).request('POST', '/api/v1/auth/logout', { token })).status, 200)
    for (const n of [0, 1]) t.equal((await each(n).request('GET', '/api/v1/users/me', { token })).status, 401)
  })

  t.test('no number has a second row after all these tests', async (t) => {
    t.strictSame(await sql('SELECT phone_number FROM users GROUP BY phone_number HAVING count(*) > 1'), [])
  })
})

t.test('first logins of one number at once make one row and one id', async (t) => {
  const database = await testDatabase(t)
  const redis = await testRedis(t)

  t.test('100 first logins at once in the repository', async (t) => {
    const service = await testService(t, { database, env: { DATABASE_POOL_MAX: '100' } })
    const phone = newPhone()
    const users = usersRepository(service.app.db)
    await openConnections(service)
    const logins = await Promise.all(times(100, () => users.login(phone, 'kg')))
    t.equal(logins.filter(({ isNew }) => isNew).length, 1)
    t.strictSame(
      await service.sql('SELECT id FROM users WHERE phone_number = $1', [phone]), [{ id: logins[0]?.user.id }]
    )
    t.equal(new Set(logins.map(({ user }) => user.id)).size, 1)
  })

  t.test('100 first logins over HTTP, 20 at once, none of which sees the row of another one', async (t) => {
    // A number has one live code under one CODE_SECRET: services with different secrets can each have one.
    const services: Service[] = []
    while (services.length < 20) {
      services.push(await testService(t, { database, redis, env: { DATABASE_POOL_MAX: '1' } }))
    }
    for (let round = 0; round < 5; round++) {
      const phone = newPhone()
      for (const service of services) t.equal((await service.send(phone)).status, 200)
      // This INSERT is not committed yet: all logins have found no row, and wait for it.
      const other = new pg.Client(database.url)
      await other.connect()
      await other.query('BEGIN')
      await other.query('INSERT INTO users (phone_number) VALUES ($1)', [phone])
      const verified = Promise.all(services.map((service) => service.verify(phone, service.codeOf(phone))))
      await until(() => isWaitedFor(database, services.length))
      await other.query('ROLLBACK')
      await other.end()
      const responses = await verified
      t.strictSame(tally(responses), { 200: 20 })
      t.equal(responses.filter(({ body }) => body.is_new_user).length, 1)
      const [row, ...more] = await database.sql('SELECT id FROM users WHERE phone_number = $1', [phone])
      t.strictSame(more, [])
      t.strictSame(new Set(responses.map(({ body }) => body.user.id)), new Set([row.id]))
    }
  })
})

for (const [what, method, path] of [
  ['logout', 'POST', '/api/v1/auth/logout'], ['deletion', 'DELETE', '/api/v1/users/me']
] as const) {
  t.test(`a ${what} is 401 if its account is deleted meanwhile`, async (t) => {
    const service = await testService(t)
    const { token, user } = await service.login(newPhone())
    const other = new pg.Client(service.database.url)
    await other.connect()
    await other.query('BEGIN')
    await other.query('DELETE FROM users WHERE id = $1', [user.id])
    const response = service.request(method, path, { token })
    await until(() => isWaitedFor(service, 1))
    await other.query('COMMIT')
    await other.end()
    t.strictSame(...problemOf(await response, 401, 'Unauthorized', 'invalid_token'))
  })
}

t.test('1,000 logins of known users take no value from the id sequence', async (t) => {
  const service = await testService(t, { env: { LOG_LEVEL: 'info' } })
  const phones = times(1000, () => newPhone())
  await service.sql('INSERT INTO users (phone_number) SELECT unnest($1::text[])', [phones])
  const state = () => service.sql('SELECT last_value, is_called FROM users_id_seq')
  const before = await state()
  for (let from = 0; from < phones.length; from += 10) {
    const logins = await Promise.all(phones.slice(from, from + 10).map((phone) => service.login(phone)))
    t.ok(logins.every(({ body }) => body.is_new_user === false))
  }
  t.strictSame(await state(), before)
  t.strictSame(await service.sql('SELECT count(*)::int FROM users WHERE is_active AND is_verified'), [{ count: 1000 }])
})
