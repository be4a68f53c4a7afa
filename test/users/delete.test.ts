import { Redis } from 'ioredis'
import t, { type Test } from 'tap'
import { holdLock } from '../helpers/locks.js'
import { startRedis } from '../helpers/servers.js'
import { newPhone, testService } from '../helpers/service.js'

const address = { title: 'Home', full_address: 'Chuy 1' }

/** A service whose clock is ahead, after the cooldown of the previous code. */
async function testServiceAhead (t: Test, options: Parameters<typeof testService>[1] = {}) {
  let aheadMs = 0
  const service = await testService(t, { ...options, overrides: { clock: () => Date.now() + aheadMs } })
  return { ...service, passCooldown: () => { aheadMs += 61_000 } }
}

/** An account with two addresses and a live code. */
async function person (service: Awaited<ReturnType<typeof testServiceAhead>>) {
  const phone = newPhone()
  const { token, user } = await service.login(phone)
  const request = (method: string, path: string, body?: unknown) =>
    service.request(method, `/api/v1/${path}`, { token, body })
  for (let count = 0; count < 2; count++) await request('POST', 'profile/addresses', address)
  service.passCooldown()
  const { status } = await service.send(phone)
  if (status !== 200) throw new Error(`send-verification responded ${status}`)
  const id = user.id as number
  return {
    phone,
    id,
    token,
    request,
    remove: () => request('DELETE', 'users/me'),
    async rows () {
      return {
        users: await service.sql('SELECT * FROM users WHERE id = $1', [id]),
        addresses: await service.sql('SELECT * FROM user_addresses WHERE user_id = $1 ORDER BY id', [id])
      }
    }
  }
}

t.test('204: account, addresses and live code are deleted, and the token stops working', async (t) => {
  const service = await testServiceAhead(t)
  const { phone, token, remove, rows } = await person(service)
  const bystander = await person(service)
  const kept = await bystander.rows()

  const { status, body, headers } = await remove()
  t.equal(status, 204)
  t.equal(body, '')
  t.equal(headers.get('cache-control'), 'no-store')
  t.strictSame(await rows(), { users: [], addresses: [] })
  t.match(await service.request('GET', '/api/v1/users/me', { token }), { status: 401, body: { code: 'invalid_token' } })
  t.match(await remove(), { status: 401, body: { code: 'invalid_token' } })
  const refused = await service.verify(phone, service.codeOf(phone))
  t.equal(refused.body.code, 'invalid_code')
  t.notOk('attempts_remaining' in refused.body)
  t.ok(service.log.some((line) => JSON.parse(line).event === 'account_deleted'))

  t.strictSame(await bystander.rows(), kept, 'another account does not change')
  t.equal((await service.verify(bystander.phone, service.codeOf(bystander.phone))).status, 200)
})

t.test('the number can sign up again as a new user', async (t) => {
  const service = await testServiceAhead(t)
  const { phone, id, token, remove } = await person(service)
  t.equal((await remove()).status, 204)
  service.passCooldown()
  const again = await service.login(phone)
  t.equal(again.body.is_new_user, true)
  t.not(again.user.id, id)
  t.equal((await service.request('GET', '/api/v1/users/me', { token })).status, 401)
  t.strictSame((await service.request('GET', '/api/v1/profile/addresses', { token: again.token })).body.addresses, [])
})

for (const reference of ['', 'ON DELETE RESTRICT', 'DEFERRABLE INITIALLY DEFERRED']) {
  t.test(`409: nothing changes if another table refers to the row (${reference || 'NO ACTION'})`, async (t) => {
    const service = await testServiceAhead(t)
    await service.sql(`CREATE TABLE orders (id SERIAL PRIMARY KEY, user_id INTEGER REFERENCES users (id) ${reference})`)
    const { id, phone, request, remove, rows } = await person(service)
    await service.sql('INSERT INTO orders (user_id) VALUES ($1)', [id])
    const before = await rows()

    const { status, body, headers } = await remove()
    t.equal(status, 409)
    t.equal(body.code, 'account_in_use')
    t.equal(headers.get('cache-control'), 'no-store')
    t.strictSame(await rows(), before)
    t.equal((await request('GET', 'users/me')).status, 200)
    t.equal((await service.verify(phone, service.codeOf(phone))).status, 200, 'the code still works')

    await service.sql('DELETE FROM orders')
    t.equal((await remove()).status, 204)
  })
}

t.test('503: nothing changes while Redis is unavailable', async (t) => {
  const server = await startRedis()
  t.teardown(() => server.stop())
  const redis = new Redis(server.url)
  t.teardown(() => redis.disconnect())
  redis.on('error', () => {})
  const service = await testServiceAhead(t, { redis: { url: server.url, redis } })
  const { remove, request, rows } = await person(service)
  const before = await rows()

  process.kill(server.pid, 'SIGSTOP')
  t.match(await remove(), { status: 503, body: { code: 'unavailable' } }, 'Redis does not respond')
  process.kill(server.pid, 'SIGCONT')
  await server.stop()
  t.match(await remove(), { status: 503, body: { code: 'unavailable' } }, 'Redis has stopped')
  t.strictSame(await rows(), before)
  t.equal((await request('GET', 'users/me')).status, 200)
})

t.test('503: nothing changes if PostgreSQL does not respond in time', async (t) => {
  const service = await testServiceAhead(t)
  const { id, phone, remove, rows } = await person(service)
  const before = await rows()
  const lock = await holdLock(t, service.database.url, 'SELECT FROM users WHERE id = $1 FOR UPDATE', [id])
  t.match(await remove(), { status: 503, body: { code: 'unavailable' } })
  await lock.release()
  t.strictSame(await rows(), before)
  t.equal((await service.verify(phone, service.codeOf(phone))).status, 200, 'the code still works')
})

t.test('deletions, changes, addresses and logins of one person at once never end in a 5xx', async (t) => {
  const service = await testServiceAhead(t)
  for (let round = 0; round < 5; round++) {
    const { phone, id, request, remove } = await person(service)
    const deletions = [remove(), remove(), remove()]
    const others = [
      request('POST', 'profile/addresses', { ...address, is_default: true }),
      request('PATCH', 'users/me', { full_name: 'A' }),
      service.verify(phone, service.codeOf(phone)), request('GET', 'profile/addresses')
    ]
    t.strictSame((await Promise.all(deletions)).map(({ status }) => status).sort(), [204, 401, 401])
    for (const { status } of await Promise.all(others)) {
      t.ok([200, 201, 400, 401].includes(status), `responded ${status}`)
    }
    t.strictSame(await service.sql('SELECT FROM user_addresses WHERE user_id = $1', [id]), [])
  }
})
