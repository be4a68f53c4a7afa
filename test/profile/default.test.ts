import fc from 'fast-check'
import t, { type Test } from 'tap'
import { newPhone, testDatabase, testRedis, testService, type Json, type Service } from '../helpers/service.js'

const required = { title: 'Home', full_address: 'Bishkek, Chuy Avenue 1' }

/** A signed-in person with `count` addresses, the oldest first. */
async function person (service: Service, count: number) {
  const { token, user } = await service.login(newPhone())
  const requestTo = (replica: Service, method: string, id: number | '' = '', body?: unknown) =>
    replica.request(method, `/api/v1/profile/addresses${id && `/${id}`}`, { token, body })
  const request = (method: string, id: number | '' = '', body?: unknown) => requestTo(service, method, id, body)
  const create = (isDefault?: boolean, replica = service) =>
    requestTo(replica, 'POST', '', { ...required, ...(isDefault !== undefined && { is_default: isDefault }) })
  const ids: number[] = []
  while (ids.length < count) ids.push((await create()).body.address.id)
  return {
    ids,
    request,
    requestTo,
    create,
    /** The ids of the default addresses: there must be one. */
    defaults: async () => (await service.sql('SELECT id FROM user_addresses WHERE user_id = $1 AND is_default',
      [user.id])).map(({ id }: Json) => id as number),
    rows: async (): Promise<Json[]> =>
      await service.sql('SELECT * FROM user_addresses WHERE user_id = $1 ORDER BY created_at DESC, id DESC', [user.id])
  }
}

t.test('the first address becomes the default, even with is_default: false; the next ones do not', async (t) => {
  const service = await testService(t)
  for (const isDefault of [undefined, false, true]) {
    const { create, defaults } = await person(service, 0)
    const { body: { address } } = await create(isDefault)
    t.equal(address.is_default, true)
    t.equal((await create()).body.address.is_default, false)
    t.equal((await create(false)).body.address.is_default, false)
    t.strictSame(await defaults(), [address.id])
  }
})

t.test('a new default replaces the previous one and updates its updated_at', async (t) => {
  const { ids: [first, second], create, request, defaults, rows } = await person(await testService(t), 2)
  for (const change of [
    async () => (await create(true)).body.address,
    async () => (await request('PATCH', second as number, { is_default: true })).body.address,
    async () => (await request('PUT', first as number, { is_default: true })).body.address
  ]) {
    const before = await rows()
    const address = await change()
    t.equal(address.is_default, true)
    t.strictSame(await defaults(), [address.id])
    const previous = before.find((row) => row.is_default)
    t.ok((await rows()).find(({ id }) => id === previous.id).updated_at > previous.updated_at)
  }
})

t.test('is_default on the default changes nothing, neither true nor false', async (t) => {
  const { ids: [first, second], request, defaults } = await person(await testService(t), 2)
  for (const method of ['PUT', 'PATCH']) {
    for (const value of [false, true]) {
      t.equal((await request(method, first as number, { is_default: value })).body.address.is_default, true)
      t.strictSame(await defaults(), [first])
    }
    t.equal((await request(method, second as number, { is_default: false })).body.address.is_default, false)
    t.strictSame(await defaults(), [first])
  }
})

t.test('a change that is 404 does not move the default', async (t) => {
  const { ids: [first, second], request, defaults } = await person(await testService(t), 2)
  await request('DELETE', second as number)
  t.equal((await request('PATCH', second as number, { is_default: true })).status, 404)
  t.strictSame(await defaults(), [first])
})

t.test('after the deletion of the default, the newest remaining address becomes it', async (t) => {
  const { ids: [a, b, c, d], request, defaults, create } = await person(await testService(t), 4)
  await request('DELETE', b as number)
  t.strictSame(await defaults(), [a])
  await request('DELETE', a as number)
  t.strictSame(await defaults(), [d])
  await request('DELETE', d as number)
  t.strictSame(await defaults(), [c])
  await request('DELETE', c as number)
  t.strictSame(await defaults(), [])
  t.equal((await create()).body.address.is_default, true)
})

t.test('409: a person has at most fifty addresses', async (t) => {
  const { ids, create, request, rows } = await person(await testService(t), 50)
  const before = await rows()
  for (const isDefault of [true, false]) {
    t.match(await create(isDefault), { status: 409, body: { code: 'address_limit' } })
  }
  t.strictSame(await rows(), before)
  t.equal((await request('DELETE', ids[0] as number)).status, 200)
  t.equal((await create()).status, 201)
  t.equal((await rows()).length, 50)
})

const countOf = (responses: Array<{ status: number }>, status: number) =>
  responses.filter((response) => response.status === status).length

/** Replicas of one service. Writes of a user take turns within a replica, so only several replicas race for a row. */
async function replicas (t: Test, count: number) {
  const [database, redis] = [await testDatabase(t), await testRedis(t)]
  const services = [await testService(t, { database, redis })]
  const { JWT_SECRET: secret } = services[0]?.env as { JWT_SECRET: string }
  while (services.length < count) services.push(await testService(t, { database, redis, env: { JWT_SECRET: secret } }))
  return services as [Service, ...Service[]]
}

t.test('of 60 creates by four replicas, 20 at once, 50 succeed and 10 are 409', async (t) => {
  const services = await replicas(t, 4)
  const { create, rows, defaults } = await person(services[0], 0)

  const responses = []
  for (let round = 0; round < 3; round++) {
    responses.push(
      ...await Promise.all(Array.from({ length: 20 }, (_, number) => create(number % 2 === 0, services[number % 4]))))
  }
  t.strictSame([countOf(responses, 201), countOf(responses, 409)], [50, 10])
  t.equal((await rows()).length, 50)
  t.equal((await defaults()).length, 1)
})

t.test('of 20 changes of the default at once, by four replicas, all succeed and leave one default', async (t) => {
  const services = await replicas(t, 4)
  const { ids, requestTo, defaults } = await person(services[0], 20)

  const responses = await Promise.all(
    ids.map((id, index) => requestTo(services[index % 4] as Service, 'PATCH', id, { is_default: true })))
  t.equal(countOf(responses, 200), 20)
  t.equal((await defaults()).length, 1)
})

t.test('of 20 deletions of one address at once one succeeds', async (t) => {
  const { ids: [first, second], request, defaults } = await person(await testService(t), 2)
  const responses = await Promise.all(Array.from({ length: 20 }, () => request('DELETE', first as number)))
  t.strictSame([countOf(responses, 200), countOf(responses, 404)], [1, 19])
  t.strictSame(await defaults(), [second])
})

/** A write to the addresses. `which` picks one of the addresses at the beginning. */
const step = fc.oneof(
  fc.record({ does: fc.constant('create' as const), isDefault: fc.boolean() }),
  fc.record({
    does: fc.constantFrom('delete' as const, 'make default' as const, 'unmake default' as const, 'list' as const),
    which: fc.nat(3)
  })
)

t.test('with any writes at once, every list of addresses has exactly one default', async (t) => {
  const services = await replicas(t, 4)
  const hasOneDefault = (t: Test, addresses: Json[], steps: unknown) =>
    t.equal(addresses.filter((address) => address.is_default).length, Math.min(addresses.length, 1),
      JSON.stringify(steps))

  await fc.assert(fc.asyncProperty(fc.array(step, { minLength: 8, maxLength: 20 }), async (steps) => {
    const { ids, request, requestTo, create, rows } = await person(services[0], 4)
    const responses = await Promise.all(steps.map(async (one, index) => {
      const replica = services[index % 4] as Service
      if (one.does === 'create') return create(one.isDefault, replica)
      const id = ids[one.which] as number
      if (one.does === 'delete') return requestTo(replica, 'DELETE', id)
      if (one.does !== 'list') return requestTo(replica, 'PATCH', id, { is_default: one.does === 'make default' })
      const response = await requestTo(replica, 'GET')
      hasOneDefault(t, response.body.addresses, steps)
      return response
    }))
    t.ok(responses.every(({ status }) => [200, 201, 404].includes(status)),
      JSON.stringify(responses.map(({ status }) => status)))
    const left = await rows()
    hasOneDefault(t, left, steps)
    const { body } = await request('GET')
    t.strictSame(body.addresses.map(({ id }: Json) => id),
      [...left.filter((row) => row.is_default), ...left.filter((row) => !row.is_default)].map(({ id }) => id))
  }), { numRuns: 10 })
})
