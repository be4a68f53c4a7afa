import pg from 'pg'
import t from 'tap'
import { wrongCode } from '../helpers/responses.js'
import { newPhone, testDatabase, testService, type Json } from '../helpers/service.js'

const rows = 100_000

/** Collects the texts of all statements that new connections of the pools send, those inside transactions included. */
function statementsOf (pools: pg.Pool[]) {
  const texts = new Set<string>()
  const listen = (client: pg.PoolClient) => {
    const query = client.query.bind(client) as (...args: unknown[]) => unknown
    Object.assign(client, {
      query: (statement: string | { text: string }, ...rest: unknown[]) => {
        texts.add(typeof statement === 'string' ? statement : statement.text)
        return query(statement, ...rest)
      }
    })
  }
  for (const pool of pools) pool.on('connect', listen)
  return texts
}

/** Every node of a plan. */
const nodesOf = (node: Json): Json[] => [node, ...(node.Plans ?? []).flatMap(nodesOf)]

t.test(`no statement of the service reads all of users or user_addresses, with ${rows} rows in each`, async (t) => {
  const database = await testDatabase(t)
  await database.sql(
    `INSERT INTO users (phone_number) SELECT '+99670' || n FROM generate_series(1000000, ${1_000_000 + rows - 1}) n`
  )
  await database.sql(`INSERT INTO user_addresses
      (user_id, title, full_address, country, is_default, created_at, updated_at)
    SELECT id, 't', 'a', 'c', TRUE, now(), now() FROM users`)
  await database.sql('ANALYZE')
  const service = await testService(t, { database, env: { LOG_LEVEL: 'info', TEST_PHONES: '+13125550100=480513' } })
  // Earlier connections are not watched: end them.
  const { pools } = service.app.db
  await Promise.all(pools.map((pool) => pool.query('SELECT pg_terminate_backend(pg_backend_pid())').catch(() => {})))
  const texts = statementsOf(pools)

  const phone = newPhone()
  const { token } = await service.login(phone)
  const { request } = service
  const is = async (status: number, method: string, path: string, body?: object, as = token) => {
    const response = await request(method, path, { token: as, body })
    t.equal(response.status, status, `${method} ${path}`)
    return response.body
  }
  await is(200, 'GET', '/health/ready')
  await is(200, 'GET', '/api/v1/users/me')
  await is(200, 'PATCH', '/api/v1/users/me', { full_name: 'A B', profile_image_url: null, language: 'ky' })
  const addresses = '/api/v1/profile/addresses'
  const fields = { title: 'Home', full_address: 'Chuy 1' }
  const { address: first } = await is(201, 'POST', addresses, fields)
  const { address: second } = await is(201, 'POST', addresses, { ...fields, is_default: true })
  await is(200, 'GET', addresses)
  await is(200, 'GET', `${addresses}/${first.id}`)
  await is(200, 'PATCH', `${addresses}/${first.id}`, { is_default: true, city: 'Osh' })
  await is(200, 'PUT', `${addresses}/${second.id}`, { title: 'Work' })
  await is(200, 'DELETE', `${addresses}/${first.id}`)
  await is(200, 'POST', '/api/v1/auth/logout')
  await service.redis.del(await service.redis.keys('phone-auth:code:*'))
  await service.send(phone)
  t.equal((await service.verify(phone, wrongCode(service.codeOf(phone)))).status, 400)
  const again = await service.verify(phone, service.codeOf(phone))
  t.equal(again.status, 200)
  await is(204, 'DELETE', '/api/v1/users/me', undefined, again.body.access_token)
  await database.sql(`INSERT INTO users (phone_number, last_login)
    VALUES ('+13125550100', (now() AT TIME ZONE 'utc') + interval '45 seconds')`)
  await service.send('+13125550100')
  t.equal((await service.verify('+13125550100', '480513')).status, 429)

  // The foreign key runs the last statement when a user is deleted.
  const own = [...texts, 'DELETE FROM ONLY user_addresses WHERE user_id = $1']
    .filter((text) => /^(select|insert|update|delete)/i.test(text))
  t.ok(own.length > 15, 'the statements are seen')
  t.ok(own.some((text) => text.includes('least(')), 'so is the statement of a login ahead of the clock')
  for (const text of own) {
    // Citus refuses these if users is a reference table.
    t.notMatch(text, /xmax|for (no key|key|share)|case (?:(?!\bend\b).)*now\(\)|returning .*(now\(\)|select)/is)
    const [{ 'QUERY PLAN': [{ Plan: plan }] }] = await database.sql(
      `EXPLAIN (GENERIC_PLAN, FORMAT JSON) ${text}`
    ) as [Json]
    const scans = nodesOf(plan)
      .filter((node) => node['Node Type'] === 'Seq Scan' && /^(users|user_addresses)$/.test(node['Relation Name']))
    t.strictSame(scans, [], text)
  }
})
