import { once } from 'node:events'
import { createServer, type IncomingMessage, type ServerResponse } from 'node:http'
import type { AddressInfo } from 'node:net'
import { text } from 'node:stream/consumers'
import t, { type Test } from 'tap'
import {
  smsSender, SmsOptedOut, SmsRefused, SmsUncertain, SmsUnsupported, type SmsMessage
} from '../../../src/messages/index.js'
import { twilioSms } from '../../../src/messages/providers/twilio.js'
import { loadConfig } from '../../../src/config/index.js'
import { problemOf } from '../../helpers/responses.js'
import { freePort } from '../../helpers/free-port.js'
import { newPhone, testService } from '../../helpers/service.js'

const account = `AC${'0123456789abcdef'.repeat(2)}`
const token = 'b3f1c0ffee5ca1ab1e0ddba11deadbee'
const twilio = { SMS_PROVIDER: 'twilio', TWILIO_ACCOUNT_SID: account, TWILIO_AUTH_TOKEN: token }
const from = { ...twilio, TWILIO_FROM: '+15005550006' }
const message: SmsMessage = {
  id: '7e2b9a4c-6f0d-4c39-9f5e-2f6d1c1b8a10',
  to: '+996555123456',
  text: 'Marque: ваш код 012345',
  market: 'kg',
  language: 'ru'
}

function config (env: Record<string, string> = {}) {
  const required = { NODE_ENV: 'development', DATABASE_URL: 'postgres://h/d', SMS_TIMEOUT_MS: '30000' }
  const { provider } = loadConfig({ ...required, ...from, ...env })
  if (provider.name !== 'twilio') throw new Error(provider.name)
  return provider
}
/** Sends the requests of the package to `url` instead of Twilio; the first ones fail with the errors in `lost`. */
const to = (url: string, ...lost: Error[]): typeof fetch => async (input, init) => {
  const failure = lost.shift()
  if (failure) throw failure
  return fetch(String(input).replace(/^https:\/\/api\.twilio\.com/, url), init)
}
const unreachable = (code: string) =>
  new TypeError('fetch failed', { cause: Object.assign(new Error('lost'), { code }) })

/** The outcome of a message. */
const outcome = (sent: Promise<void>) => sent.then(() => 'accepted', (error: unknown) =>
  error instanceof SmsUnsupported
    ? 'unsupported'
    : error instanceof SmsOptedOut
      ? 'opted out'
      : error instanceof SmsRefused ? 'refused' : error instanceof SmsUncertain ? 'uncertain' : error)

type Behaviour = (response: ServerResponse, form: URLSearchParams) => void
const json = (response: ServerResponse, status: number, body: object) =>
  response.writeHead(status, { 'content-type': 'application/json' }).end(JSON.stringify(body))
/** The response of the API to a message that it queued. */
const created: Behaviour = (response, form) => json(response, 201, {
  account_sid: account,
  api_version: '2010-04-01',
  body: form.get('Body'),
  date_created: 'Thu, 24 Aug 2023 05:01:45 +0000',
  date_sent: null,
  date_updated: 'Thu, 24 Aug 2023 05:01:45 +0000',
  direction: 'outbound-api',
  error_code: null,
  error_message: null,
  from: form.get('From'),
  messaging_service_sid: form.get('MessagingServiceSid'),
  num_media: '0',
  num_segments: '1',
  price: null,
  price_unit: 'USD',
  sid: `SM${'0'.repeat(32)}`,
  status: 'queued',
  subresource_uris: {},
  to: form.get('To'),
  uri: `/2010-04-01/Accounts/${account}/Messages/SM${'0'.repeat(32)}.json`
})
/** An error response of the API. Its message contains the number. */
const error = (status: number, code: number): Behaviour => (response, form) => json(response, status, {
  code,
  message: `The 'To' number ${form.get('To')} is not valid: ${form.get('Body')}`,
  more_info: `https://www.twilio.com/docs/errors/${code}`,
  status
})
const hang: Behaviour = () => {}
const hangUp: Behaviour = (response) => response.destroy()

/** Starts a Messages API. Its n-th request gets the n-th behaviour; `seen` contains the requests. */
async function api (t: Test, ...behaviours: Behaviour[]) {
  const seen: Array<Pick<IncomingMessage, 'method' | 'url' | 'headers'> & { form: Record<string, string> }> = []
  const server = createServer(async (request, response) => {
    const form = new URLSearchParams(await text(request))
    seen.push({ method: request.method, url: request.url, headers: request.headers, form: Object.fromEntries(form) })
    const behave = behaviours[seen.length - 1]
    if (!behave) throw new Error('more requests than expected')
    behave(response, form)
  })
  server.listen(0, '127.0.0.1')
  await once(server, 'listening')
  t.teardown(() => {
    server.close()
    server.closeAllConnections()
  })
  return { url: `http://127.0.0.1:${(server.address() as AddressInfo).port}`, seen }
}

t.test('the sender posts a message once to the Messages API, with account and token', async (t) => {
  const { url, seen } = await api(t, created)
  t.equal(await outcome(twilioSms(config(), to(url))(message)), 'accepted')
  t.equal(seen.length, 1)
  t.strictSame(seen.map(({ method, url, form }) => ({ method, url, form })), [{
    method: 'POST',
    url: `/2010-04-01/Accounts/${account}/Messages.json`,
    form: { To: '+996555123456', From: '+15005550006', Body: 'Marque: ваш код 012345' }
  }])
  t.match(seen[0]?.headers, {
    authorization: `Basic ${Buffer.from(`${account}:${token}`).toString('base64')}`,
    'content-type': 'application/x-www-form-urlencoded'
  })
})

t.test('with TWILIO_MESSAGING_SERVICE_SID the messaging service chooses the sender', async (t) => {
  const { url, seen } = await api(t, created)
  const service = `MG${'0123456789abcdef'.repeat(2)}`
  t.equal(await outcome(
    twilioSms(config({ TWILIO_FROM: '', TWILIO_MESSAGING_SERVICE_SID: service }), to(url))(message)), 'accepted')
  t.strictSame(seen[0]?.form, { To: '+996555123456', MessagingServiceSid: service, Body: 'Marque: ваш код 012345' })
})

t.test('one sender sends many messages in parallel', async (t) => {
  const { url, seen } = await api(t, ...Array.from({ length: 20 }, () => created))
  const send = twilioSms(config(), to(url))
  const numbers = Array.from({ length: 20 }, (_, n) => `+99655512${1000 + n}`)
  await Promise.all(numbers.map((number) => send({ ...message, to: number })))
  t.strictSame(seen.map(({ form }) => form.To).sort(), numbers)
})

t.test('the sender accepts a 2xx with any body, without waiting for the body', async (t) => {
  for (const behaviour of [
    (response) => response.writeHead(201).end('<html>'), (response) => response.writeHead(202).end(),
    (response) => response.writeHead(201).write('{')
  ] as Behaviour[]) {
    const { url } = await api(t, behaviour)
    t.equal(await outcome(twilioSms(config(), to(url))(message)), 'accepted')
  }
})

t.test('the sender distinguishes unreachable numbers from other refusals and tries nothing again', async (t) => {
  for (const [status, code, expected] of [
    [400, 21211, 'unsupported'], // invalid
    [400, 21214, 'unsupported'], // unreachable
    [400, 21265, 'unsupported'], // short code
    [400, 21614, 'unsupported'], // not a mobile number
    [400, 21635, 'unsupported'], // landline
    [401, 20003, 'refused'], // wrong token
    [403, 21408, 'refused'], // region not enabled for the account
    [400, 21212, 'refused'], // invalid sender
    [400, 21606, 'refused'], // sender cannot send SMS
    [400, 21608, 'refused'], // trial account
    [400, 21610, 'opted out'], // the person texted STOP
    [400, 21612, 'refused'], // no route from the sender to the number
    [429, 20429, 'refused'], // too many requests
    [404, 20404, 'refused'],
    [500, 20500, 'refused'],
    [503, 20503, 'refused']
  ] as const) {
    const { url, seen } = await api(t, error(status, code))
    t.equal(await outcome(twilioSms(config(), to(url))(message)), expected, String(code))
    t.equal(seen.length, 1)
  }
})

t.test('an error response that does not come from the API is a refusal', async (t) => {
  for (const [status, body] of [[502, '<html>bad gateway</html>'], [400, ''], [403, '{"code":"21211x"}'], [400, '[]'],
    [400, '{"type":"https://example.com","title":"Bad","status":400,"code":20001}']] as const) {
    const { url } = await api(t, (response) => response.writeHead(status).end(body))
    t.equal(await outcome(twilioSms(config(), to(url))(message)), 'refused', body)
  }
  const { url } = await api(t,
    (response) => { response.writeHead(400, { 'content-length': '100' }).write('{', () => response.destroy()) })
  t.equal(await outcome(twilioSms(config(), to(url))(message)), 'refused', 'an incomplete body')
})

t.test('a redirect is a refusal, and the sender does not follow it', async (t) => {
  for (const status of [301, 302, 303, 307, 308]) {
    const elsewhere = await api(t)
    const { url, seen } = await api(t, (response) => response.writeHead(status, { location: elsewhere.url }).end())
    t.equal(await outcome(twilioSms(config(), to(url))(message)), 'refused', String(status))
    t.equal(seen.length, 1)
    t.equal(elsewhere.seen.length, 0)
  }
})

t.test('without a connection the sender tries a message once more', async (t) => {
  const { url, seen } = await api(t, created)
  t.equal(await outcome(twilioSms(config(), to(url, unreachable('ECONNREFUSED')))(message)), 'accepted')
  t.equal(seen.length, 1)
  const nobody = `http://127.0.0.1:${await freePort()}`
  t.equal(await outcome(twilioSms(config(), to(nobody))(message)), 'refused')
  t.equal(await outcome(twilioSms(config(), to(url, unreachable('ENOTFOUND'), unreachable('EAI_AGAIN')))(message)),
    'refused', 'no third try')
  t.equal(seen.length, 1)
})

t.test('the sender does not repeat a message that may have arrived', async (t) => {
  const { url, seen } = await api(t, hangUp)
  t.equal(await outcome(twilioSms(config(), to(url))(message)), 'uncertain')
  t.equal(seen.length, 1)
})

t.test('without a response within SMS_TIMEOUT_MS the outcome is uncertain', async (t) => {
  const { url, seen } = await api(t, hang)
  t.equal(await outcome(twilioSms(config({ SMS_TIMEOUT_MS: '100' }), to(url))(message)), 'uncertain')
  t.equal(seen.length, 1)
})

t.test('both tries together take at most SMS_TIMEOUT_MS', async (t) => {
  const { url } = await api(t, hang)
  const signals: Array<AbortSignal | null | undefined> = []
  const lose = [unreachable('ECONNREFUSED')]
  const sent = outcome(twilioSms(config({ SMS_TIMEOUT_MS: '200' }), async (input, init) => {
    signals.push(init?.signal)
    return to(url, ...lose.splice(0))(input, init)
  })(message))
  t.equal(await sent, 'uncertain')
  t.equal(signals.length, 2)
  t.equal(signals[0], signals[1], 'both tries share one timeout')
})

t.test('Twilio\'s own environment variables change nothing', async (t) => {
  const { url, seen } = await api(t, created)
  const before = { ...process.env }
  t.teardown(() => { process.env = before })
  Object.assign(process.env, {
    TWILIO_EDGE: 'sydney',
    TWILIO_REGION: 'au1',
    TWILIO_LOG_LEVEL: 'debug',
    TWILIO_CA_BUNDLE: '/no/such/file',
    HTTP_PROXY: 'http://127.0.0.1:9'
  })
  const written = t.capture(console, 'log')
  t.equal(await outcome(twilioSms(config(), to(url))(message)), 'accepted')
  t.equal(seen.length, 1)
  t.strictSame(written(), [])
})

t.test('no error of the sender contains the number, the text or the token', async (t) => {
  const errors: unknown[] = []
  for (const behaviour of [error(400, 21211), error(400, 21610), error(500, 20500), hangUp]) {
    const { url } = await api(t, behaviour)
    await twilioSms(config(), to(url))(message).catch((error: unknown) => errors.push(error))
  }
  t.equal(errors.length, 4)
  for (const error of errors) {
    const { message: words, cause } = error as Error
    for (const confidential of [message.to, message.text, '012345', token]) {
      t.notOk(`${words} ${String(cause)}`.includes(confidential))
    }
  }
  t.equal((errors[1] as Error).message, 'Twilio responded 400, error 21610')
})

t.test('SMS_PROVIDER=twilio sends through Twilio, to its own URL', async (t) => {
  const uris: string[] = []
  const { fetch } = globalThis
  t.teardown(() => { globalThis.fetch = fetch })
  globalThis.fetch = async (input) => {
    uris.push(String(input))
    return new Response('{}', { status: 201 })
  }
  await smsSender(config())(message)
  t.strictSame(uris, [`https://api.twilio.com/2010-04-01/Accounts/${account}/Messages.json`])
})

/** Starts the whole service with a Messages API of the given behaviours. */
async function serviceWith (t: Test, env: Record<string, string>, ...behaviours: Behaviour[]) {
  const { url, seen } = await api(t, ...behaviours)
  const all = { ...from, ...env }
  const service = await testService(t, { env: all, overrides: { sms: twilioSms(config(all), to(url)) } })
  return { ...service, seen }
}

t.test('over HTTP, a code that Twilio sends signs in', async (t) => {
  const service = await serviceWith(t, {}, created)
  const phone = newPhone('us')
  t.equal((await service.send(phone)).status, 200)
  const body = service.seen[0]?.form.Body as string
  t.match(body, /^Marque: your code is \d{6}$/)
  service.confidential.add(body.slice(-6))
  t.equal((await service.verify(phone, body.slice(-6))).status, 200)
})

t.test('over HTTP, a bad number gives 422 and any other refusal 502; both undo the send', async (t) => {
  const service = await serviceWith(t, { CODE_SENDS_PER_HOUR: '1', SMS_GUARD_BLOCK_SENDS: '2' }, error(400, 21614),
    error(400, 21408), created)
  const phone = newPhone()
  t.strictSame(...problemOf(await service.send(phone), 422, 'Unprocessable Entity', 'unsupported_phone',
    { errors: [{ field: '/phone', message: 'cannot receive messages: use another mobile number' }] }))
  t.strictSame(await service.redis.keys('phone-auth:code:*'), [])
  t.strictSame(...problemOf(await service.send(phone), 502, 'Bad Gateway', 'sms_failed'))
  t.strictSame(await service.redis.keys('phone-auth:code:*'), [])
  t.equal((await service.send(phone)).status, 200, 'cooldown, cap and pumping guard count neither of them')
  for (const { form } of service.seen) service.confidential.add((form.Body as string).slice(-6))
  t.match(service.log.map((line) => JSON.parse(line)).find(({ event }) => event === 'error'), {
    status: 502, code: 'sms_failed', err: { message: 'Twilio responded 400, error 21408' }
  })
})

t.test('over HTTP, a response timeout gives 502, and code and cooldown stay', async (t) => {
  const service = await serviceWith(t, { SMS_TIMEOUT_MS: '200' }, hang)
  const phone = newPhone()
  t.strictSame(...problemOf(await service.send(phone), 502, 'Bad Gateway', 'sms_failed'))
  t.equal((await service.send(phone)).body.code, 'resend_too_soon')
  const code = (service.seen[0]?.form.Body as string).slice(-6)
  service.confidential.add(code)
  t.equal((await service.verify(phone, code)).status, 200)
})
