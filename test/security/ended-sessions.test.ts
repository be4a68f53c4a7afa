import pg from 'pg'
import t, { type Test } from 'tap'
import { claimsOf, mint } from '../helpers/forge.js'
import { holdLock } from '../helpers/locks.js'
import { startProxy } from '../helpers/proxy.js'
import { until } from '../helpers/server-process.js'
import { newPhone, testDatabase, testService, type Service } from '../helpers/service.js'

const passes = async (service: Service, token: string) =>
  (await service.request('GET', '/auth/verify-token', { token })).status
const logout = async (service: Service, token: string) =>
  (await service.request('POST', '/auth/logout', { token })).status

/** Signs in on two devices, on the first one a minute earlier. */
async function twoDevices (service: Service) {
  const phone = newPhone()
  const { token, user } = await service.login(phone)
  const { iat } = claimsOf(token)
  const claims = { user_id: user.id, market: 'kg', iat: iat - 60, exp: iat - 60 + 1800 }
  await service.sql("UPDATE users SET created_at = created_at - interval '1 hour' WHERE id = $1", [user.id])
  return { phone, id: user.id as number, earlier: mint(claims, service.env.JWT_SECRET as string), latest: token }
}

/** Makes every COMMIT that changes `users` wait for the advisory lock 1, or fail. */
const atCommit = async (service: Service, statement: string) => {
  await service.sql(`CREATE OR REPLACE FUNCTION at_commit() RETURNS trigger LANGUAGE plpgsql
    AS $$ BEGIN ${statement}; RETURN NULL; END $$`)
  await service.sql(`CREATE CONSTRAINT TRIGGER at_commit AFTER UPDATE ON users DEFERRABLE INITIALLY DEFERRED
    FOR EACH ROW EXECUTE FUNCTION at_commit()`)
}

t.test('a session stays over after a logout, also when another system sets is_active to TRUE', async (t) => {
  const service = await testService(t)
  const { phone, id, earlier, latest } = await twoDevices(service)
  t.equal(await logout(service, latest), 200)

  await service.sql('UPDATE users SET is_active = TRUE WHERE id = $1', [id])

  t.strictSame([await passes(service, earlier), await passes(service, latest)], [401, 401])
  const next = await service.login(phone)
  t.strictSame([await passes(service, earlier), await passes(service, latest), await passes(service, next.token)],
    [401, 401, 200])
})

t.test('a token of the first owner of an id does not work for the account that gets the id later', async (t) => {
  const service = await testService(t)
  const { id, earlier, latest } = await twoDevices(service)
  const legacy = mint({ user_id: id, market: 'kg', exp: claimsOf(latest).iat + 1200 }, service.env.JWT_SECRET as string)
  const rowOf = (createdAt: string) => service.sql(`INSERT INTO users
    (id, phone_number, is_active, last_login, created_at)
    VALUES ($1, $2, TRUE, (now() AT TIME ZONE 'utc') + interval '1 second', ${createdAt})`, [id, newPhone()])

  for (const [createdAt, expected] of [
    ["date_trunc('second', now() AT TIME ZONE 'utc') - interval '30 seconds'", [401, 200, 200]],
    ["(now() AT TIME ZONE 'utc') + interval '1 hour'", [200, 200, 200]],
    ['NULL', [200, 200, 200]]
  ] as const) {
    await service.sql('DELETE FROM users WHERE id = $1', [id])
    await rowOf(createdAt)
    t.strictSame([await passes(service, earlier), await passes(service, latest), await passes(service, legacy)],
      expected, createdAt)
  }
})

t.test('a logout or deletion of a row that another system deletes at the same time is 401', async (t) => {
  const service = await testService(t)

  for (const [method, path] of [['POST', '/auth/logout'], ['DELETE', '/api/v1/users/me']] as const) {
    const { token, user } = await service.login(newPhone())
    const deletion = await holdLock(t, service.database.url, 'DELETE FROM users WHERE id = $1', [user.id])
    const response = service.request(method, path, { token })
    await deletion.isAwaited()
    await deletion.release()
    t.match(await response, { status: 401, body: { code: 'invalid_token' } }, path)
  }
})

t.test('a logout whose COMMIT fails signs nobody out and revives no ended session', async (t) => {
  const service = await testService(t)
  const { phone, id, earlier, latest } = await twoDevices(service)
  t.equal(await logout(service, latest), 200)
  const next = await service.login(phone)
  await service.sql("UPDATE users SET last_login = last_login + interval '10 seconds' WHERE id = $1", [id])
  await atCommit(service, "RAISE EXCEPTION 'no'")

  for (let repeated = 0; repeated < 2; repeated++) {
    t.equal(await logout(service, next.token), 503)
    t.strictSame([await passes(service, earlier), await passes(service, latest), await passes(service, next.token)],
      [401, 401, 200])
  }
  await service.sql('DROP TRIGGER at_commit ON users')
  t.equal(await logout(service, next.token), 200)
  t.equal(await passes(service, next.token), 401)
})

/** Starts a logout whose COMMIT waits until `release` is called. */
async function logoutAtCommit (t: Test) {
  const database = await testDatabase(t)
  const { port } = new URL(database.url)
  const proxy = await startProxy(t, Number(port))
  const service = await testService(t,
    { database: { ...database, url: database.url.replace(port, String(proxy.port)) } })
  const devices = await twoDevices(service)
  await atCommit(service, 'PERFORM pg_advisory_xact_lock(1)')
  const holder = new pg.Client({ connectionString: database.url })
  holder.on('error', () => {})
  await holder.connect()
  t.teardown(() => holder.end())
  await holder.query('SELECT pg_advisory_lock(1)')
  const waiting = async () => await service.sql("SELECT pid FROM pg_locks WHERE locktype = 'advisory' AND NOT granted")

  const response = logout(service, devices.latest)
  await until(async () => (await waiting()).length > 0)
  return { service, proxy, devices, response, waiting, release: () => holder.query('SELECT pg_advisory_unlock(1)') }
}

t.test('a logout whose connection dies before the COMMIT completes signs nobody out', async (t) => {
  const { service, devices, response, waiting, release } = await logoutAtCommit(t)

  for (const { pid } of await waiting()) await service.sql('SELECT pg_terminate_backend($1)', [pid])
  t.equal(await response, 503)
  await release()

  t.strictSame([await passes(service, devices.earlier), await passes(service, devices.latest)], [200, 200])
})

t.test('a logout whose COMMIT completes without confirmation signs every device out', async (t) => {
  const { service, proxy, devices, response, release } = await logoutAtCommit(t)

  await proxy.set('cut')
  await release()
  t.equal(await response, 503)
  await proxy.set('pass')
  await until(
    async () => (await service.sql('SELECT is_active FROM users WHERE id = $1', [devices.id]))[0].is_active === false)

  await service.sql('UPDATE users SET is_active = TRUE WHERE id = $1', [devices.id])
  await until(async () => await passes(service, devices.latest) === 401)
  t.equal(await passes(service, devices.earlier), 401)
})
