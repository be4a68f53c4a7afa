import t, { type Test } from 'tap'
import { buildApp } from '../../src/app.js'
import type { SmsMessage } from '../../src/messages/index.js'
import { loadConfig } from '../../src/config/index.js'
import { playground } from '../../src/dev/playground.js'
import { rawRequest } from '../helpers/raw.js'
import { newPhone, testDatabase, testService, type Json } from '../helpers/service.js'

const message = (to: string): SmsMessage => ({
  id: to, to, text: `Marque: your code is ${to.slice(-6)}`, market: 'us', language: 'en'
})

async function development (t: Test, send = async () => {}) {
  const { url, sql } = await testDatabase(t)
  const { sms, routes } = playground(send)
  const app = await buildApp(loadConfig({ NODE_ENV: 'development', DATABASE_URL: url, LOG_LEVEL: 'silent' }), {
    sms, routes
  })
  t.teardown(() => app.close())
  const get = (path: string, headers: Record<string, string> = {}, remoteAddress = '127.0.0.1') =>
    app.inject({ url: path, remoteAddress, headers: { host: 'localhost:3000', ...headers } })
  return { app, sms, sql, get }
}

t.test('the page at / loads its style and its module only from its own origin', async (t) => {
  const { get } = await development(t)
  for (const [path, type] of [
    ['/', 'text/html'], ['/index.html', 'text/html'], ['/playground.css', 'text/css'],
    ['/playground.js', 'application/javascript']
  ] as const) {
    const { statusCode, headers } = await get(path)
    t.equal(statusCode, 200, path)
    t.match(headers['content-type'], type)
    t.equal(headers['content-security-policy'], [
      "default-src 'none'", "script-src 'self'", "style-src 'self'", "img-src 'self' data:", "connect-src 'self'",
      "base-uri 'none'", "form-action 'none'", "frame-ancestors 'none'"
    ].join(';'))
    t.equal(headers['x-content-type-options'], 'nosniff')
    t.equal(headers['strict-transport-security'], undefined)
  }
  for (const path of ['/package.json', '/../package.json', '/%2e%2e/package.json', '/playground', '/dev', '/dev/']) {
    t.match((await get(path)).json(), { code: 'not_found' }, path)
  }
  t.equal((await get('/api/v1/users/me')).headers['content-security-policy'], undefined)
})

t.test('the inbox shows the 20 newest messages, the newest first', async (t) => {
  let isFailing = false
  const { sms, get } = await development(t, async () => { if (isFailing) throw new Error('unavailable') })
  const inbox = async () => ((await get('/dev/inbox')).json() as { messages: SmsMessage[] }).messages
  t.strictSame(await inbox(), [])
  const sent = Array.from({ length: 21 }, () => message(newPhone('us')))
  for (const one of sent) await sms(one)
  t.strictSame(await inbox(), sent.toReversed().slice(0, 20))
  isFailing = true
  await t.rejects(sms(message(newPhone('us'))), { message: 'unavailable' })
  t.strictSame((await inbox())[0], sent.at(-1))
  t.equal((await get('/dev/inbox')).headers['cache-control'], 'no-store')
})

t.test('the row of a number is shown as it is stored', async (t) => {
  const { sql, get } = await development(t)
  const rowOf = async (phone: string): Promise<Json> =>
    (await get(`/dev/user?phone=${encodeURIComponent(phone)}`)).json().row
  const phone = newPhone()
  t.equal(await rowOf(phone), null)
  t.equal((await get('/dev/user')).json().row, null)
  await sql(
    "INSERT INTO users (phone_number, full_name, last_login) VALUES ($1, 'Айгүл', '2026-11-23 05:30:00')", [phone]
  )
  t.match(
    await rowOf(phone),
    { phone_number: phone, full_name: 'Айгүл', is_active: true, is_verified: false, last_login: '2026-11-23T05:30:00' }
  )
})

t.test('a number with control characters, or given twice, is refused', async (t) => {
  const { get } = await development(t)

  for (const query of ['phone=%00', 'phone=1%00', 'phone=1&phone=2']) {
    t.match(
      (await get(`/dev/user?${query}`)).json(), { status: 422, code: 'invalid_request', errors: [{ field: '/phone' }] },
      query
    )
  }
})

t.test('inbox and row respond only to this machine: no other IP, no proxy, no other host name', async (t) => {
  const { app, get } = await development(t)
  for (const path of ['/dev/inbox', '/dev/user?phone=%2B996555123456']) {
    for (const [host, address] of [
      ['localhost', '127.0.0.1'], ['LOCALHOST:3000', '::1'], ['127.0.0.1:3000', '::ffff:127.0.0.1'],
      ['[::1]:3000', '127.1.2.3']
    ] as const) {
      t.equal((await get(path, { host }, address)).statusCode, 200, `${host} ${address}`)
    }
    const refused: Array<[headers: Record<string, string>, address?: string]> = [
      [{}, '192.0.2.1'], [{}, '10.0.0.1'], [{}, '::ffff:192.0.2.1'], [{}, 'nowhere'],
      ...[
        'Forwarded', 'Via', 'X-Forwarded-For', 'X-Forwarded-Host', 'X-Forwarded-Proto', 'X-Real-IP',
        'X-Original-Forwarded-For', 'Client-IP', 'X-Client-IP', 'X-Cluster-Client-IP', 'True-Client-IP',
        'CF-Connecting-IP', 'Fastly-Client-IP'
      ].map((name): [Record<string, string>] => [{ [name.toLowerCase()]: '127.0.0.1' }]),
      ...[
        'evil.example', 'localhost.evil.example', 'evil.example:3000', 'localhost@evil.example',
        '127.0.0.1.evil.example', '192.0.2.1', '0.0.0.0:3000', 'localhost:3000:1'
      ].map((host): [{ host: string }] => [{ host }])
    ]
    for (const [headers, address] of refused) {
      t.match(
        (await get(path, headers, address)).json(), { status: 404, code: 'not_found' },
        `${JSON.stringify(headers)} ${address}`
      )
    }
  }
  const url = await app.listen({ host: '127.0.0.1', port: 0 })
  t.match(
    await rawRequest(url, 'GET /dev/inbox HTTP/1.0\r\n\r\n'), { status: 404, body: { code: 'not_found' } },
    'without a Host header'
  )
})

t.test('production has no playground, with or without DOCS', async (t) => {
  for (const DOCS of ['false', 'true']) {
    const { request } = await testService(t, { env: { DOCS } })
    for (const path of ['/', '/index.html', '/playground.js', '/dev/inbox', '/dev/user']) {
      t.match(await request('GET', path), { status: 404, body: { code: 'not_found' } }, path)
    }
  }
})
