import t from 'tap'
import { SmsOptedOut, SmsUnsupported, type SmsSender } from '../../src/messages/index.js'
import { problemOf } from '../helpers/responses.js'
import { testService, type Json } from '../helpers/service.js'

const send = '/api/v1/auth/send-verification'
const verify = '/api/v1/auth/verify-code'

t.test('a number and its code work as they were pasted, and a national number with its market', async (t) => {
  const service = await testService(t)
  service.confidential.add('+996555123456').add('+13128059851')
  for (const [phone, market, e164] of [
    ['\u202a+996\u00a0555\u00a0123\u2011456\u202c', undefined, '+996555123456'],
    ['0555 12-34-56', undefined, '+996555123456'],
    ['555.123.456', 'kg', '+996555123456'],
    ['(312) 805-9851', 'us', '+13128059851'],
    ['001 312 805 9851', 'kg', '+13128059851']
  ] as const) {
    const sent = await service.request('POST', send, { body: { phone, market } })
    t.strictSame([sent.status, service.sms.at(-1)?.to, sent.body.market], [200, e164, e164.startsWith('+1') ? 'us' : 'kg'], phone)
    const code = service.codeOf(e164)
    const pasted = `\ufeff${code.slice(0, 3)}\u202f${code.slice(3)}\u200b`
    const signedIn = await service.request('POST', verify, { body: { phone, market, verification_code: pasted } })
    t.match(signedIn, { status: 200, body: { user: { phone: e164 } } }, phone)
  }
  t.equal((await service.sql('SELECT count(*)::int AS users FROM users'))[0].users, 2)
})

t.test('a 422 says what is wrong with the number', async (t) => {
  const service = await testService(t)
  const refused = async (body: Json) => {
    const answer = await service.request('POST', send, { body })
    return [answer.status, answer.body.code, answer.body.errors?.[0].field, answer.body.errors?.[0].message]
  }
  const prefixes = 'those begin with +996, +1'

  t.strictSame(await refused({ phone: 'call me' }), [422, 'invalid_request', '/phone', 'must be a phone number with its country code, like +996 555 123 456'])
  t.strictSame(await refused({ phone: '555 123 456' }), [422, 'invalid_request', '/phone', 'has no country code: begin with + and the country code, like +996 555 123 456'])
  t.strictSame(await refused({ phone: '+996 601 123 456' }), [422, 'invalid_request', '/phone', 'belongs to a range of numbers that is not known: check its digits'])
  t.strictSame(await refused({ phone: '+996 555 123' }), [422, 'invalid_request', '/phone', 'does not have as many digits as the numbers of its country'])
  t.strictSame(await refused({ phone: '+999 555 123 456' }), [422, 'invalid_request', '/phone', `is no number of any market: ${prefixes}`])
  t.strictSame(await refused({ phone: '+44 20 7183 8750' }), [422, 'unsupported_phone', '/phone', `is no number of any market: ${prefixes}`])
  t.strictSame(await refused({ phone: '911', market: 'us' }), [422, 'unsupported_phone', '/phone', 'is a short number: use a mobile number with its country code, like +996 555 123 456'])
  t.strictSame(await refused({ phone: '+1 800 555 1234' }), [422, 'unsupported_phone', '/phone', 'is of a kind that receives no messages: use a mobile number'])
  t.strictSame(await refused({ phone: '555123456', market: 'zz' }), [422, 'invalid_request', '/market', 'must be one of kg, us'])
  t.strictSame(await refused({ phone: '555123456', market: null }), [422, 'invalid_request', '/market', 'must be a string'])
  t.strictSame(service.sms, [])
})

t.test('a number of PHONE_EXTRA_PREFIXES signs in with its market, and is refused without the variable', async (t) => {
  const service = await testService(t, { env: { PHONE_EXTRA_PREFIXES: 'kg:+996601,us:+1565' } })
  for (const [phone, market] of [['+996601123456', 'kg'], ['+15651234567', 'us']] as const) {
    t.match((await service.login(phone)).body, { market, user: { phone, market } })
  }
  t.equal((await service.request('POST', send, { body: { phone: '565 123 4567', market: 'us' } })).status, 200)
  t.match((await service.app.metrics.metrics()).split('\n').filter((line) => line.startsWith('phone_auth_codes_sent_total')), [
    'phone_auth_codes_sent_total{market="kg"} 1', 'phone_auth_codes_sent_total{market="us"} 2'
  ])

  const strict = await testService(t)
  t.equal((await strict.send('+996601123456')).body.code, 'invalid_request')
})

t.test('a test number works in every spelling', async (t) => {
  const service = await testService(t, { env: { TEST_PHONES: '+996600000001=271828' } })
  service.confidential.add('+996600000001')
  for (const body of [{ phone: '00 996 600 000 001' }, { phone: '600000001', market: 'kg' }]) {
    t.equal((await service.request('POST', send, { body })).status, 200)
    t.match(await service.request('POST', verify, { body: { ...body, verification_code: '271-828' } }), { status: 200, body: { user: { phone: '+996600000001' } } })
  }
  t.strictSame(service.sms, [])
})

for (const [Failure, code, detail] of [
  [SmsOptedOut, 'opted_out', 'has opted out of messages'],
  [SmsUnsupported, 'unsupported_phone', 'receives no messages: use another mobile number']
] as const) {
  t.test(`a number that a provider calls ${code} is 422, and nothing of the send is kept`, async (t) => {
    let isRefused = true
    const sms: SmsSender = async (message) => {
      if (isRefused) throw new Failure('no')
      service.sms.push(message)
    }
    const service = await testService(t, { env: { CODE_SENDS_PER_HOUR: '1', SMS_MARKET_DAILY_MAX: '1' }, overrides: { sms } })
    const phone = '+996555123456'

    const refused = await service.send(phone)
    t.strictSame(...problemOf(refused, 422, 'Unprocessable Entity', code, { errors: [{ field: '/phone', message: detail }] }))
    t.strictSame(await service.redis.keys('phone-auth:code:*'), [])
    const [line] = service.log.map((text) => JSON.parse(text)).filter(({ event }) => event === 'sms_failed')
    t.match(line, { reason: code, message_id: /^[0-9a-f-]{36}$/ })
    t.match(await service.app.metrics.metrics(), `phone_auth_refused_total{reason="${code}",market="kg"} 1`)

    isRefused = false
    t.equal((await service.send(phone)).status, 200, 'after START')
  })
}
