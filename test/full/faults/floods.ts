import { once } from 'node:events'
import { readFileSync } from 'node:fs'
import type { Socket } from 'node:net'
import { setTimeout as sleep } from 'node:timers/promises'
import t, { type Test } from 'tap'
import { openMany } from '../../helpers/raw.js'
import { smsWebhook, startService } from '../../helpers/server-process.js'
import { client, newPhone, productionEnv, testDatabase, testRedis } from '../../helpers/service.js'

/*
 * npm run test:faults: one client floods a process of the service while another user calls verify-token. Each of these
 * floods once made the service refuse all clients.
 */
const slowBodies = 2200
const unreadLists = 250
const writes = 300
/** Longest time for a response during a flood, in milliseconds. */
const besideSlowBodiesMs = 1500
const besideUnreadMs = 1500
const besideWritesMs = 1000
const growthMiB = 120

const head = (line: string, ...headers: string[]) => [`${line} HTTP/1.1`, 'Host: h', ...headers, '', ''].join('\r\n')

async function startFlooded (t: Test) {
  const database = await testDatabase(t)
  const { url: smsUrl, sms } = await smsWebhook(t)
  const service = await startService(t, {
    ...productionEnv(database.url, (await testRedis(t)).url),
    SMS_WEBHOOK_URL: smsUrl,
    TRUST_PROXY: '127.0.0.1',
    LOG_LEVEL: 'info',
    NODE_OPTIONS: ''
  })
  const { request, login } = client(service.url, sms)
  const [attacker, other] = [await login(newPhone()), await login(newPhone())]
  return {
    ...service,
    sql: database.sql,
    request,
    attacker,
    residentMiB: () => Number(/VmRSS:\s+(\d+)/.exec(readFileSync(`/proc/${service.pid}/status`, 'utf8'))?.[1]) / 1024,
    /** Sends one request after the other until `isOver`, but at least `least`. Each must be 200 within `limitMs`. */
    async probe (path: string, limitMs: number, least: number, isOver: () => boolean) {
      const statuses: Record<number, number> = {}
      let slowest = 0
      for (let asked = 0; asked < least || !isOver(); asked++) {
        const start = performance.now()
        const { status } = await request('GET', path, { token: other.token })
        slowest = Math.max(slowest, performance.now() - start)
        statuses[status] = (statuses[status] ?? 0) + 1
        await sleep(20)
      }
      t.strictSame(Object.keys(statuses), ['200'], `${path} during the flood: ${JSON.stringify(statuses)}`)
      t.ok(slowest < limitMs, `${path}: the slowest of ${statuses[200]} took ${Math.round(slowest)} ms`)
    }
  }
}

const closed = (sockets: Socket[]) =>
  Promise.all(sockets.map((socket) => socket.closed || once(socket.resume(), 'close')))

for (const [kind, headersOf] of Object.entries({
  'with a token': (token: string) => () => [`Authorization: Bearer ${token}`, 'Content-Length: 100'],
  'without a token, each from an IP of its own': () => (n: number) =>
    [`X-Forwarded-For: 2001:db8:${(n >> 4).toString(16)}:${n & 15}::1`, 'Content-Length: 100']
})) {
  t.test(`${slowBodies} slow bodies ${kind} do not delay other users`, async (t) => {
    const service = await startFlooded(t)
    const headers = headersOf(service.attacker.token)
    const line = kind === 'with a token' ? 'PATCH /api/v1/users/me' : 'POST /auth/verify-code'
    let isOver = false
    const flood = openMany(service, slowBodies, (n) => head(line, 'Content-Type: application/json', ...headers(n)))
      .then(closed).finally(() => { isOver = true })
    await Promise.all([flood, service.probe('/auth/verify-token', besideSlowBodiesMs, 40, () => isOver)])
    t.equal(await service.stop(), 0)
  })
}

t.test(`8 × ${unreadLists} pipelined and unread lists of 50 addresses take little memory`, async (t) => {
  const service = await startFlooded(t)
  const { token, user } = service.attacker
  // The longest possible values: a list has 110 KB.
  await service.sql(`INSERT INTO user_addresses
      (user_id, title, full_address, street, city, country, is_default, created_at, updated_at)
    SELECT $1, repeat('ы', 100), repeat('ы', 500), repeat('ы', 200), repeat('ы', 100), repeat('ы', 100),
      FALSE, now(), now() FROM generate_series(1, 50)`, [user.id])
  const list = head('GET /api/v1/profile/addresses', `Authorization: Bearer ${token}`)
  t.equal((await service.request('GET', '/api/v1/profile/addresses', { token })).body.total, 50)
  const before = service.residentMiB()
  let most = before

  const sockets = await openMany(service, 8, () => list.repeat(unreadLists))
  for (const socket of sockets) socket.pause()
  const end = performance.now() + 5000
  await Promise.all(['/health/live', '/auth/verify-token'].map((path) => service.probe(path, besideUnreadMs, 40, () => {
    most = Math.max(most, service.residentMiB())
    return performance.now() > end
  })))
  t.ok(most - before < growthMiB, `resident memory grew from ${Math.round(before)} by ${Math.round(most - before)} MiB`)
  for (const socket of sockets) socket.destroy()
  t.equal(await service.stop(), 0)
})

t.test(`${writes} parallel writes of one user do not delay other users`, async (t) => {
  const service = await startFlooded(t)
  const { token } = service.attacker
  let isOver = false
  const body = { title: 'Home', full_address: 'Chuy 1', is_default: true }
  const flood = Promise.all(
    Array.from({ length: writes }, () => service.request('POST', '/api/v1/profile/addresses', { token, body }))
  )
    .finally(() => { isOver = true })
  const [responses] = await Promise.all([flood, service.probe('/auth/verify-token', besideWritesMs, 40, () => isOver)])
  const codes = responses.map(({ status, body }) => status === 201 ? 'created' : body.code as string)
  t.strictSame(codes.filter((code) => !['created', 'address_limit', 'rate_limited'].includes(code)), [])
  t.ok(codes.includes('created'), 'some writes succeed')
  t.ok(codes.includes('rate_limited'), 'writes beyond 20 in flight are refused')
  t.equal(await service.stop(), 0)
})
