import t from 'tap'
import { SmsOptedOut, SmsUnsupported, type SmsSender } from '../../src/messages/index.js'
import { problemOf } from '../helpers/responses.js'
import { testService, type Json } from '../helpers/service.js'

const send = '/api/v1/auth/send-verification'
const verify = '/api/v1/auth/verify-code'

t.test('pasted numbers and codes work, and so does a national number with its market', async (t) => {
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
    t.strictSame([sent.status, service.sms.at(-1)?.to, sent.body.market],
      [200, e164, e164.startsWith('+1') ? 'us' : 'kg'], phone)
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
    const { status, body: { code, errors } } = await service.request('POST', send, { body })
    return [status, code, errors?.[0].field, errors?.[0].message]
  }
  const invalid = (message: string, field = '/phone') => [422, 'invalid_request', field, message]
  const unsupported = (message: string) => [422, 'unsupported_phone', '/phone', message]
  const example = 'like +996 555 123 456'
  const noMarket = 'is not a number of any market: use one that starts with +996 or +1'

  t.strictSame(await refused({ phone: 'call me' }),
    invalid(`must be a phone number with its country code, ${example}`))
  t.strictSame(await refused({ phone: '555 123 456' }),
    invalid(`has no country code: start with + and the country code, ${example}`))
  t.strictSame(await refused({ phone: '+996 601 123 456' }),
    invalid('is in an unknown range of numbers: check the digits'))
  t.strictSame(await refused({ phone: '+996 555 123' }),
    invalid('has too many or too few digits for its country: check the digits'))
  t.strictSame(await refused({ phone: '+999 555 123 456' }), invalid(noMarket))
  t.strictSame(await refused({ phone: '+44 20 7183 8750' }), unsupported(noMarket))
  t.strictSame(await refused({ phone: '911', market: 'us' }),
    unsupported(`is a short number: use a mobile number with its country code, ${example}`))
  t.strictSame(await refused({ phone: '+1 800 555 1234' }), unsupported('cannot receive messages: use a mobile number'))
  t.strictSame(await refused({ phone: '555123456', market: 'zz' }), invalid('must be one of kg, us', '/market'))
  t.strictSame(await refused({ phone: '555123456', market: null }), invalid('must be a string', '/market'))
  t.strictSame(service.sms, [])
})

t.test('a number of PHONE_EXTRA_PREFIXES signs in with its market; without the variable it is refused', async (t) => {
  const service = await testService(t, { env: { PHONE_EXTRA_PREFIXES: 'kg:+996601,us:+1565' } })
  for (const [phone, market] of [['+996601123456', 'kg'], ['+15651234567', 'us']] as const) {
    t.match((await service.login(phone)).body, { market, user: { phone, market } })
  }
  t.equal((await service.request('POST', send, { body: { phone: '565 123 4567', market: 'us' } })).status, 200)
  const metrics = (await service.app.metrics.metrics()).split('\n')
  t.match(metrics.filter((line) => line.startsWith('phone_auth_codes_sent_total')), [
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
    t.match(await service.request('POST', verify, { body: { ...body, verification_code: '271-828' } }),
      { status: 200, body: { user: { phone: '+996600000001' } } })
  }
  t.strictSame(service.sms, [])
})

for (const [Failure, code, detail] of [
  [SmsOptedOut, 'opted_out', 'has opted out of messages'],
  [SmsUnsupported, 'unsupported_phone', 'cannot receive messages: use another mobile number']
] as const) {
  t.test(`a number that a provider refuses is 422 ${code}, and the send is undone`, async (t) => {
    let isRefused = true
    const sms: SmsSender = async (message) => {
      if (isRefused) throw new Failure('no')
      service.sms.push(message)
    }
    const env = { CODE_SENDS_PER_HOUR: '1', SMS_MARKET_DAILY_MAX: '1' }
    const service = await testService(t, { env, overrides: { sms } })
    const phone = '+996555123456'

    const refused = await service.send(phone)
    t.strictSame(...problemOf(refused, 422, 'Unprocessable Entity', code,
      { errors: [{ field: '/phone', message: detail }] }))
    t.strictSame(await service.redis.keys('phone-auth:code:*'), [])
    const [line] = service.log.map((text) => JSON.parse(text)).filter(({ event }) => event === 'sms_failed')
    t.match(line, { reason: code, message_id: /^[0-9a-f-]{36}$/ })
    t.match(await service.app.metrics.metrics(), `phone_auth_refused_total{reason="${code}",market="kg"} 1`)

    isRefused = false
    t.equal((await service.send(phone)).status, 200, 'after the person texted START')
  })
}
