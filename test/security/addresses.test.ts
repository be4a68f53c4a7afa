import { createServer, request as httpRequest } from 'node:http'
import { once } from 'node:events'
import type { AddressInfo } from 'node:net'
import t, { type Test } from 'tap'
import { addressGroup, canonicalAddress, clientAddress, wideAddressGroup } from '../../src/http/client-ip.js'
import { startRedis } from '../helpers/servers.js'
import { newPhone, testService, type Service } from '../helpers/service.js'
import { Redis } from 'ioredis'

const limited = { RATE_LIMIT_IP_MAX: '5', RATE_LIMIT_IP_WINDOW_SECONDS: '600', TRUST_PROXY: '127.0.0.1' }

/** A gateway that appends the client IP, from X-Test-Client, to X-Forwarded-For. */
async function proxyFor (t: Test, service: Service) {
  const proxy = createServer((request, response) => {
    const { 'x-test-client': client, 'x-forwarded-for': before, ...headers } = request.headers
    const forwarded = [before, client].filter(Boolean).join(', ')
    const upstream = httpRequest(service.url + request.url, {
      method: request.method, headers: { ...headers, ...(forwarded && { 'x-forwarded-for': forwarded }) }
    }, (incoming) => {
      response.writeHead(incoming.statusCode as number, incoming.headers)
      incoming.pipe(response)
    })
    request.pipe(upstream)
  }).listen(0, '127.0.0.1')
  await once(proxy, 'listening')
  t.teardown(() => { proxy.closeAllConnections(); proxy.close() })
  return `http://127.0.0.1:${(proxy.address() as AddressInfo).port}`
}

/** Sends requests until one is refused. Returns how many were admitted. */
async function budget (url: string, headers: Array<Record<string, string>>, most = 12) {
  for (let i = 0; i < most; i++) {
    if ((await ask(url, headers[i % headers.length])).status === 429) return i
  }
  return most
}

/** One request to a limited route. */
async function ask (url: string, headers: Record<string, string> = {}) {
  const response = await fetch(`${url}/api/v1/auth/verify-code`, {
    method: 'POST',
    headers: { 'content-type': 'application/json', ...headers },
    body: JSON.stringify({ phone: newPhone(), verification_code: '000000' })
  })
  await response.text()
  const limits = ['limit', 'remaining', 'reset'].map((name) => Number(response.headers.get(`ratelimit-${name}`)))
  return { status: response.status, limits, retryAfter: Number(response.headers.get('retry-after')) }
}

t.test('a client IP is canonical: no port, brackets or zone; IPv4-mapped as IPv4, IPv6 by its /64', async (t) => {
  t.equal(canonicalAddress('203.0.113.7'), '203.0.113.7')
  t.equal(canonicalAddress('203.0.113.7:4711'), '203.0.113.7')
  t.equal(canonicalAddress('[2001:DB8::1]:443'), '2001:db8::1')
  t.equal(canonicalAddress('[2001:db8::1]'), '2001:db8::1')
  t.equal(canonicalAddress('fe80::1%eth0'), 'fe80::1')
  t.equal(canonicalAddress('::ffff:203.0.113.7'), '203.0.113.7')
  t.equal(canonicalAddress('::ffff:cb00:7107'), '203.0.113.7')
  t.equal(canonicalAddress('2001:0db8:0000:0000:0000:0000:0000:0001'), '2001:db8::1')
  for (const garbage of [
    '', 'unknown', '_hidden', '127.1', '0x7f000001', '010.0.0.1', '1.2.3.4.5', '1.2.3.4, 5.6.7.8', '2001:db8::1::2',
    '\x1b[31m'
  ]) {
    t.equal(canonicalAddress(garbage), undefined, JSON.stringify(garbage))
  }
  t.equal(addressGroup('2001:db8:1:2:aaaa::1'), addressGroup('2001:db8:1:2:bbbb::9'))
  t.not(addressGroup('2001:db8:1:2::1'), addressGroup('2001:db8:1:3::1'))
  t.equal(addressGroup('203.0.113.7'), '203.0.113.7')
})

t.test('a request whose connection is closed has an unknown client IP', async (t) => {
  t.equal(clientAddress({ ips: [undefined], socket: {} } as never), 'unknown')
})

t.test('NAT64 and 6to4 addresses count as their IPv4 address and have no /48', async (t) => {
  const carriers = [
    '64:ff9b::cb00:7107', '64:ff9b::203.0.113.7', '64:ff9b:1::cb00:7107', '64:ff9b:1:fffe::cb00:7107',
    '2002:cb00:7107::1', '2002:cb00:7107:ffff:1:2:3:4'
  ]
  for (const address of carriers) {
    t.equal(addressGroup(address), '203.0.113.7', address)
    t.equal(wideAddressGroup(address), undefined, address)
  }
  for (const other of ['64:ff9b:0:1::cb00:7107', '64:ff9b:2::cb00:7107', '2003:cb00:7107::1']) {
    t.match(addressGroup(other), ':', other)
  }
  t.equal(wideAddressGroup('203.0.113.7'), undefined)
  t.equal(wideAddressGroup('2001:db8:1:2::1'), '2001:db8:1::/48')
  t.equal(wideAddressGroup('2001:db8:1:2::1'), wideAddressGroup('2001:db8:1:ffff:1:2:3:4'))
  t.not(wideAddressGroup('2001:db8:1:2::1'), wideAddressGroup('2001:db8:2:2::1'))
  t.not(wideAddressGroup('2001:db8:1::1'), addressGroup('2001:db8:1::1'))
})

t.test('an IPv4 address inside an IPv6 address is not a trusted gateway', async (t) => {
  const service = await testService(t, { env: { ...limited, TRUST_PROXY: '127.0.0.1,10.0.0.0/8' } })
  const forged = Array.from({ length: 12 }, (_, i) => ({ 'x-forwarded-for': `198.51.100.${i}, 2002:a01:203::1` }))

  t.equal(await budget(service.url, forged), 5)
})

t.test('a client in an IPv6 /64 uses only its own budget; all clients of a /48 share a larger one', async (t) => {
  const service = await testService(t, { env: { ...limited, RATE_LIMIT_IP_MAX: '2' } })
  const from = (subnet: number, site = '2001:db8:1') =>
    ask(service.url, { 'x-forwarded-for': `${site}:${subnet.toString(16)}::1` })

  const alone = []
  for (let i = 0; i < 40; i++) alone.push((await from(1)).status)
  t.strictSame(alone, [400, 400, ...Array<number>(38).fill(429)])
  const neighbours = await Promise.all(Array.from({ length: 30 }, (_, i) => from(i + 2)))
  t.ok(neighbours.every(({ status }) => status === 400), 'refused requests of the first /64 do not count in the /48')
  t.strictSame(neighbours.filter(({ limits }) => limits[0] === 2).map(({ limits }) => limits[1]),
    Array<number>(29).fill(1))

  const { status, limits: [limit, remaining, reset], retryAfter } = await from(99)
  t.strictSame({ status, limit, remaining }, { status: 429, limit: 32, remaining: 0 })
  t.equal(retryAfter, reset)
  t.equal((await from(1, '2001:db8:2')).status, 400, 'another /48')
  t.equal((await ask(service.url, { 'x-forwarded-for': '203.0.113.1' })).status, 400, 'IPv4')
})

t.test('the headers have the tighter of the two budgets', async (t) => {
  const service = await testService(t, { env: { ...limited, RATE_LIMIT_IP_MAX: '2' } })
  const from = async (subnet: number) =>
    (await ask(service.url, { 'x-forwarded-for': `2001:db8:1:${subnet}::1` })).limits.slice(0, 2)

  t.strictSame(await from(0), [2, 1])
  for (let subnet = 1; subnet < 31; subnet++) await from(subnet)
  t.strictSame(await from(31), [32, 0])
})

t.test('only the last 20 entries of X-Forwarded-For are read', async (t) => {
  const service = await testService(t, { env: { ...limited, TRUST_PROXY: '127.0.0.1,10.0.0.0/8' } })
  const chain = (client: string, gateways: number) =>
    ({ 'x-forwarded-for': [client, ...Array<string>(gateways).fill('10.0.0.1')].join(', ') })

  t.equal(await budget(service.url, [chain('203.0.113.1', 19)]), 5, 'the 20th entry is the client')
  t.equal(await budget(service.url, [chain('203.0.113.2', 19)]), 5, 'another entry has another budget')
  t.equal(await budget(service.url, Array.from({ length: 12 }, (_, i) => chain(`198.51.100.${i}`, 20))), 5,
    'the 21st entry is ignored')
  t.equal((await ask(service.url)).status, 429, 'these requests count for the peer')
  t.equal((await ask(service.url, chain('203.0.113.3', 1000))).status, 429)
})

t.test('behind a trusted gateway each client has one budget, also if it spoofs X-Forwarded-For', async (t) => {
  const service = await testService(t, { env: limited })
  const url = await proxyFor(t, service)
  t.equal(await budget(url, [{ 'x-test-client': '203.0.113.1' }]), 5)
  t.equal(await budget(url, [{ 'x-test-client': '203.0.113.2' }]), 5, 'another client')
  t.equal(await budget(url, Array.from({ length: 12 }, (_, i) => ({
    'x-test-client': '203.0.113.3', 'x-forwarded-for': `198.51.100.${i}`
  }))), 5, 'spoofed entries')
  t.equal(await budget(url, Array.from({ length: 12 }, (_, i) => ({
    'x-test-client': '203.0.113.4', 'x-forwarded-for': `garbage-${i}, <b>, , 127.0.0.1`
  }))), 5, 'garbage before')
  t.equal(await budget(url, Array.from({ length: 12 }, (_, i) => ({ 'x-test-client': `203.0.113.5:${40_000 + i}` }))),
    5, 'a port')
  t.equal(await budget(url, Array.from({ length: 12 }, (_, i) => ({ 'x-test-client': `2001:db8:1:2::${i}` }))), 5,
    'addresses of one IPv6 network')
  t.equal(await budget(url, Array.from({ length: 12 },
    (_, i) => ({ 'x-test-client': i % 2 ? '203.0.113.6' : '::ffff:203.0.113.6' }))), 5, 'IPv4-mapped')
  t.equal(await budget(url, Array.from({ length: 12 }, (_, i) => ({ 'x-test-client': `_hidden${i}` }))), 5,
    'entries that are not addresses')
})

t.test('two trusted gateways in a row that add ports are both skipped', async (t) => {
  const service = await testService(t, { env: { ...limited, TRUST_PROXY: '127.0.0.1,10.0.0.0/8' } })
  t.equal(await budget(service.url, [{ 'x-forwarded-for': '203.0.113.1, 10.1.2.3:8080' }]), 5)
  t.equal(await budget(service.url, [{ 'x-forwarded-for': '203.0.113.2, 10.1.2.3:8080' }]), 5)
})

for (const trusted of ['false', '10.0.0.0/8']) {
  t.test(`with TRUST_PROXY=${trusted} the header of another peer is ignored and logged once`, async (t) => {
    const service = await testService(t, { env: { ...limited, TRUST_PROXY: trusted } })
    t.equal(await budget(service.url, Array.from({ length: 12 }, (_, i) => ({ 'x-forwarded-for': `198.51.100.${i}` }))),
      5)
    const told = service.log.map((line) => JSON.parse(line)).filter(({ event }) => event === 'untrusted_proxy')
    t.match(told, [{ level: 40 }])
    t.equal(told.length, 1)
  })
}

t.test('both public routes, both prefixes and all replicas share one budget', async (t) => {
  const first = await testService(t, { env: limited })
  const second = await testService(t, {
    database: first.database, redis: { url: first.env.REDIS_URL as string, redis: first.redis }, env: first.env
  })
  const statuses: number[] = []
  const routes = [
    [first, '/auth/send-verification'], [second, '/api/v1/auth/verify-code'], [second, '/auth/verify-code'],
    [first, '/api/v1/auth/send-verification'], [second, '/auth/send-verification'], [first, '/auth/verify-code']
  ] as const
  for (const [service, path] of routes) {
    const { status, headers } = await service.request('POST', path, { body: {} })
    statuses.push(status)
    t.equal(headers.get('ratelimit-limit'), '5')
    t.ok(Number(headers.get('ratelimit-reset')) > 590)
  }
  t.strictSame(statuses, [422, 422, 422, 422, 422, 429])

  const { status, headers, body } = await second.request('POST', '/auth/verify-code', { body: '{' })
  t.equal(status, 429, 'before the body is read')
  t.equal(body.code, 'rate_limited')
  t.equal(headers.get('ratelimit-remaining'), '0')
  t.equal(headers.get('retry-after'), String(body.retry_after))
  t.match(second.log.map((line) => JSON.parse(line)).find(({ event }) => event === 'limit_hit'),
    { limit: 'address', client: '127.0.0.1', request_id: String })
  t.equal((await first.request('GET', '/api/v1/auth/markets')).status, 200, 'other routes do not count')
})

t.test('Redis contains no client IP, and every count has a TTL', async (t) => {
  const service = await testService(t, { env: limited })
  await service.request('POST', '/auth/verify-code', { body: {} })
  const keys = await service.redis.keys('*')
  t.equal(keys.length, 1)
  t.notMatch(keys.join(), /127/)
  t.ok(await service.redis.ttl(keys[0] as string) > 590)
})

t.test('without Redis the public routes are 503', async (t) => {
  const server = await startRedis()
  const redis = new Redis(server.url)
  redis.on('error', () => {})
  t.teardown(() => { redis.disconnect() })
  const service = await testService(t, { redis: { url: server.url, redis } })
  await server.stop()
  for (const path of ['/auth/send-verification', '/auth/verify-code']) {
    const { status, body } = await service.request('POST', path,
      { body: { phone: newPhone(), verification_code: '000000' } })
    t.equal(status, 503)
    t.equal(body.code, 'unavailable')
  }
  t.equal(service.sms.length, 0)
})

t.test('every spelling of a number and of the path shares one budget', async (t) => {
  const service = await testService(t)
  const phone = newPhone()
  t.equal((await service.send(phone)).status, 200)
  const digits = phone.slice(1)
  const spellings = [
    digits, `+${digits}`, ` +${digits.slice(0, 3)} (${digits.slice(3, 6)}) ${digits.slice(6, 9)}-${digits.slice(9)} `,
    `${digits.slice(0, 5)}--${digits.slice(5)}`
  ]
  for (const spelling of spellings) {
    const { body } = await service.request('POST', '/auth/send-verification', { body: { phone: spelling } })
    t.equal(body.code, 'resend_too_soon', spelling)
  }
  const paths = ['//auth/send-verification', '/auth//send-verification', '/auth/send-verification/',
    '/AUTH/send-verification', '/auth/./send-verification',
    '/auth/%73end-verification', '/auth/send%2dverification', '/api/v1//auth/send-verification',
    '/auth/send-verification?x=1', '/auth%2fsend-verification']
  for (const path of paths) {
    const { status, body } = await service.request('POST', path, { body: { phone } })
    t.ok(body.code === 'resend_too_soon' || status === 404, `${path}: ${status}`)
  }
  t.equal(service.sms.length, 1)
})
