import { once } from 'node:events'
import { readFileSync } from 'node:fs'
import { createServer, type IncomingMessage, type ServerResponse } from 'node:http'
import { createRequire } from 'node:module'
import type { AddressInfo } from 'node:net'
import { text } from 'node:stream/consumers'
import { Webhook } from 'standardwebhooks'
import t, { type Test } from 'tap'
import { Compile } from 'typebox/compile'
import {
  smsSender, SmsOptedOut, SmsRefused, SmsUncertain, SmsUnsupported, type SmsMessage
} from '../../../src/messages/index.js'
import { loadConfig } from '../../../src/config/index.js'
import { freePort } from '../../helpers/free-port.js'

const secret = `whsec_${Buffer.alloc(24, 'webhook key').toString('base64')}`
const message: SmsMessage = {
  id: '7e2b9a4c-6f0d-4c39-9f5e-2f6d1c1b8a10',
  to: '+996555123456',
  text: 'Marque: ваш код 012345',
  market: 'kg',
  language: 'ru'
}

const senderTo = (url: string, timeoutMs = 30_000) => smsSender(loadConfig({
  NODE_ENV: 'development',
  DATABASE_URL: 'postgres://h/d',
  SMS_PROVIDER: 'webhook',
  SMS_WEBHOOK_URL: url,
  SMS_WEBHOOK_SECRET: secret,
  SMS_TIMEOUT_MS: String(timeoutMs)
}).provider)

/** The outcome of a message. */
const outcome = (sent: Promise<void>) => sent.then(() => 'accepted', (error: unknown) =>
  error instanceof SmsOptedOut
    ? 'opted out'
    : error instanceof SmsUnsupported
      ? 'unsupported'
      : error instanceof SmsRefused ? 'refused' : error instanceof SmsUncertain ? 'uncertain' : error)

type Behaviour = (response: ServerResponse, request: IncomingMessage) => void
const respond = (status: number, headers: Record<string, string> = {}): Behaviour =>
  (response) => response.writeHead(status, headers).end('the response of a provider')
const hang: Behaviour = () => {}
const hangUp: Behaviour = (response) => response.destroy()

/** Starts a provider. Its n-th request gets the n-th behaviour; `seen` contains the requests. */
async function provider (t: Test, ...behaviours: Behaviour[]) {
  type Seen = Pick<IncomingMessage, 'method' | 'url'> & { headers: Record<string, string>, body: string }
  const seen: Seen[] = []
  const server = createServer(async (request, response) => {
    seen.push({
      method: request.method,
      url: request.url,
      headers: request.headers as Record<string, string>,
      body: await text(request)
    })
    const behave = behaviours[seen.length - 1]
    if (!behave) throw new Error('more requests than expected')
    behave(response, request)
  })
  server.listen(0, '127.0.0.1')
  await once(server, 'listening')
  t.teardown(() => {
    server.close()
    server.closeAllConnections()
  })
  return { url: `http://127.0.0.1:${(server.address() as AddressInfo).port}/send?from=phone-auth`, seen }
}

t.test('a message and its headers fit the OpenAPI document', async (t) => {
  const { post } = JSON.parse(readFileSync('openapi.json', 'utf8')).webhooks.message
  const { schema } = post.requestBody.content['application/json']
  const { url, seen } = await provider(t, respond(200))

  await senderTo(url)(message)
  const [{ method, headers, body }] = seen as [typeof seen[number]]
  t.equal(method, 'POST')
  t.ok(Compile(schema).Check(JSON.parse(body)))
  t.strictSame(Object.keys(schema.properties).sort(), Object.keys(JSON.parse(body)).sort())
  t.strictSame(post.parameters.map(({ name }: { name: string }) => name),
    Object.keys(headers).filter((name) => name.startsWith('webhook-')))
})

t.test('the sender posts a message once, as JSON with exactly five members', async (t) => {
  const { url, seen } = await provider(t, respond(200))
  await senderTo(url)(message)
  t.equal(seen.length, 1)
  const [{ method, url: path, headers, body }] = seen as [typeof seen[0]]
  t.strictSame({ method, path, type: headers['content-type'] },
    { method: 'POST', path: '/send?from=phone-auth', type: 'application/json' })
  t.strictSame(JSON.parse(body), {
    id: message.id, to: '+996555123456', text: 'Marque: ваш код 012345', market: 'kg', language: 'ru'
  })
})

t.test('a Standard Webhooks verifier accepts the signed message and nothing else', async (t) => {
  const { url, seen } = await provider(t, respond(200))
  await senderTo(url)(message)
  const [{ headers, body }] = seen as [typeof seen[0]]
  t.equal(headers['webhook-id'], message.id)
  t.match(headers['webhook-signature'], /^v1,[A-Za-z0-9+/]{43}=$/)
  t.ok(Math.abs(Number(headers['webhook-timestamp']) - Date.now() / 1000) < 60, 'seconds since the epoch')
  t.strictSame(new Webhook(secret).verify(body, headers), JSON.parse(body))
  t.throws(() => new Webhook(secret).verify(body.replace('012345', '543210'), headers))
  t.throws(() => new Webhook(secret).verify(body, { ...headers, 'webhook-id': 'another' }))
  t.throws(() => new Webhook(`whsec_${Buffer.alloc(24, 'another key').toString('base64')}`).verify(body, headers))
})

t.test('the sender accepts any 2xx', async (t) => {
  for (const status of [200, 201, 202, 204]) {
    const { url, seen } = await provider(t, respond(status))
    t.equal(await outcome(senderTo(url)(message)), 'accepted', String(status))
    t.equal(seen.length, 1)
  }
})

t.test('the sender accepts a 2xx without waiting for its body', async (t) => {
  const { url } = await provider(t, (response) => response.writeHead(200).write('{'))
  t.equal(await outcome(senderTo(url)(message)), 'accepted')
})

for (const [failure, behaviour] of Object.entries({
  'a 500': respond(500), 'a 503': respond(503), 'a connection that breaks': hangUp
})) {
  t.test(`after ${failure} the sender tries once more, signed and with the same webhook-id`, async (t) => {
    const { url, seen } = await provider(t, behaviour, respond(200))
    t.equal(await outcome(senderTo(url)(message)), 'accepted')
    t.equal(seen.length, 2)
    for (const { headers, body } of seen) {
      t.equal(headers['webhook-id'], message.id)
      t.strictSame(new Webhook(secret).verify(body, headers), message)
    }
  })
}

t.test('after two failures of the provider the outcome is a refusal', async (t) => {
  const { url, seen } = await provider(t, respond(500), respond(503))
  t.equal(await outcome(senderTo(url)(message)), 'refused')
  t.equal(seen.length, 2)
})

t.test('without a connection to the provider the outcome is a refusal', async (t) => {
  t.equal(await outcome(senderTo(`http://127.0.0.1:${await freePort()}/`)(message)), 'refused')
})

t.test('after two broken connections the outcome is uncertain', async (t) => {
  const { url, seen } = await provider(t, hangUp, hangUp)
  t.equal(await outcome(senderTo(url)(message)), 'uncertain')
  t.equal(seen.length, 2)
})

t.test('after a broken connection, a refusal of the second try leaves the outcome uncertain', async (t) => {
  for (const refusal of [respond(500), respond(409)]) {
    const { url, seen } = await provider(t, hangUp, refusal)
    t.equal(await outcome(senderTo(url)(message)), 'uncertain')
    t.equal(seen.length, 2)
  }
})

t.test('a 4xx refuses the message, and the sender does not try again', async (t) => {
  for (const status of [400, 401, 404, 409, 410, 422, 429]) {
    const { url, seen } = await provider(t, respond(status))
    t.equal(await outcome(senderTo(url)(message)), 'refused', String(status))
    t.equal(seen.length, 1)
  }
})

t.test('a 422 with a reason refuses the number; any other 422 refuses only the message', async (t) => {
  const responds = (status: number, body: string): Behaviour => (response) => response.writeHead(status).end(body)
  for (const [behaviour, expected] of [
    [responds(422, '{"reason":"opted_out"}'), 'opted out'],
    [responds(422, '{"reason": "unsupported", "more": 1}'), 'unsupported'],
    [responds(422, '{"reason":"another"}'), 'refused'],
    [responds(422, '{}'), 'refused'],
    [responds(422, 'null'), 'refused'],
    [responds(422, ''), 'refused'],
    [responds(422, `{"reason":"opted_out"${' '.repeat(5000)}}`), 'refused'],
    [responds(400, '{"reason":"opted_out"}'), 'refused'],
    [
      (response) => { response.writeHead(422, { 'content-length': '100' }).write('{', () => response.destroy()) },
      'refused'
    ]
  ] as Array<[Behaviour, string]>) {
    const { url, seen } = await provider(t, behaviour)
    t.equal(await outcome(senderTo(url)(message)), expected)
    t.equal(seen.length, 1)
  }
  const { url } = await provider(t, (response) => response.writeHead(422).write('{'))
  t.equal(await outcome(senderTo(url, 100)(message)), 'refused', 'an endless body')
})

t.test('both tries of a message have the traceparent of its request, if there is one', async (t) => {
  const traceparent = '00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01'
  const { url, seen } = await provider(t, respond(500), respond(200), respond(200))

  await senderTo(url)(message, { traceparent })
  await senderTo(url)(message, {})
  t.strictSame(seen.map(({ headers }) => headers.traceparent), [traceparent, traceparent, undefined])
})

t.test('a redirect is a refusal: the service neither follows it nor tries again', async (t) => {
  for (const status of [301, 302, 303, 307, 308]) {
    const elsewhere = await provider(t)
    const { url, seen } = await provider(t, respond(status, { location: elsewhere.url }))
    t.equal(await outcome(senderTo(url)(message)), 'refused', String(status))
    t.equal(seen.length, 1)
    t.equal(elsewhere.seen.length, 0)
  }
})

t.test('without a response within SMS_TIMEOUT_MS the outcome is uncertain', async (t) => {
  const { url, seen } = await provider(t, hang)
  const start = performance.now()
  t.equal(await outcome(senderTo(url, 1000)(message)), 'uncertain')
  const elapsed = performance.now() - start
  t.ok(elapsed > 990 && elapsed < 10_000, `${elapsed} ms`)
  t.equal(seen.length, 1, 'there is no second try')
})

t.test('both tries together take at most SMS_TIMEOUT_MS', async (t) => {
  const { url, seen } = await provider(t, respond(500), hang)
  const start = performance.now()
  t.equal(await outcome(senderTo(url, 200)(message)), 'uncertain')
  const elapsed = performance.now() - start
  t.ok(elapsed < 2000, `${elapsed} ms`)
  t.equal(seen.length, 2)
})

t.test('no error of the sender contains the number, the text or the secret', async (t) => {
  const errors: unknown[] = []
  for (const behaviours of [[respond(400)], [respond(500), respond(500)], [hangUp, hangUp]]) {
    const { url } = await provider(t, ...behaviours)
    await senderTo(url)(message).catch((error: unknown) => errors.push(error))
  }
  t.equal(errors.length, 3)
  for (const error of errors) {
    const { message: words, cause } = error as Error
    for (const confidential of [message.to, message.text, '012345', secret]) {
      t.notOk(`${words} ${String(cause)}`.includes(confidential))
    }
  }
})

t.test('the service does not load the package of another provider', async (t) => {
  const { url } = await provider(t, respond(200))
  await senderTo(url)(message)
  const isLoaded = () =>
    Object.keys(createRequire(import.meta.url).cache).some((file) => file.includes('/node_modules/twilio/'))
  t.notOk(isLoaded())
  await import('twilio')
  t.ok(isLoaded(), 'the check sees a loaded package')
})
