import t, { type Test } from 'tap'
import { SmsRefused, SmsUncertain } from '../../src/messages/index.js'
import { problemOf, wrongCode } from '../helpers/responses.js'
import { newPhone, testService, type Service } from '../helpers/service.js'

const hour = 3600
const day = 86_400

/** A service whose clock the test sets, in seconds from now. */
async function serviceOnClock (t: Test, env: Record<string, string> = {}) {
  const start = Date.now()
  let now = start
  const service = await testService(t, { env, overrides: { clock: () => now } })
  return { ...service, at (seconds: number) { now = start + seconds * 1000 } }
}

/** A service whose clock and provider the test controls. `sms` has every message, also refused ones. */
async function serviceWithProvider (t: Test, env: Record<string, string> = {}) {
  const failures: Error[] = []
  const start = Date.now()
  let now = start
  const service: Service = await testService(t, {
    env,
    overrides: {
      clock: () => now,
      sms: async (message) => {
        service.sms.push(message)
        const failure = failures.shift()
        if (failure) throw failure
      }
    }
  })
  return {
    ...service,
    at (seconds: number) { now = start + seconds * 1000 },
    failNext: (error: Error) => { failures.push(error) }
  }
}

t.test('200', async (t) => {
  t.test('one message is sent to the number, in the language of the request, with the code', async (t) => {
    const service = await testService(t)
    const phone = newPhone()
    const { status, headers } = await service.send(phone)
    t.equal(status, 200)
    t.equal(headers.get('cache-control'), 'no-store')
    const code = service.codeOf(phone)
    const [message] = service.sms
    t.match(message?.id, /^[0-9a-f-]{36}$/)
    t.strictSame(service.sms,
      [{ id: message?.id, to: phone, text: `Marque: ваш код ${code}`, market: 'kg', language: 'ru' }])
  })

  t.test('any spelling is sent as E.164, and the response has the format of the market', async (t) => {
    const service = await testService(t)
    for (const typed of ['+1 (312) 805-9851', '13128059852', '1-312-805-9853']) {
      const { body } = await service.send(typed)
      t.match(body.phone_number, /^\+1 \(312\) 805-985\d$/)
      service.confidential.add(service.sms.at(-1)!.to)
    }
    t.strictSame(service.sms.map(({ to }) => to), ['+13128059851', '+13128059852', '+13128059853'])
  })

  t.test('the response does not reveal whether the number has an account', async (t) => {
    const service = await testService(t)
    const [known, unknown] = [newPhone(), newPhone()]
    await service.sql(
      "INSERT INTO users (phone_number, full_name, language, is_verified) VALUES ($1, 'A name', 'ky', TRUE)", [known])
    const responses = [await service.send(known), await service.send(unknown)]
    const [first, second] = responses.map(({ status, headers, body }) => ({
      status,
      headers: [...headers.entries()].filter(
        ([name]) => !['date', 'x-request-id', 'ratelimit', 'ratelimit-remaining', 'ratelimit-reset'].includes(name)),
      body: { ...body, phone_number: '' }
    }))
    t.strictSame(first, second)
    t.strictSame(service.sms.map(({ language }) => language), ['ky', 'ru'], 'the messages differ')
  })

  t.test('language: body, Accept-Language, market; a stored language shapes the message only', async (t) => {
    const service = await testService(t)
    interface Row {
      market?: 'kg' | 'us'
      language?: string
      accepts?: string
      stored?: string | null
      sms: string
      response: string
    }
    const rows: Row[] = [
      { sms: 'ru', response: 'ru' },
      { market: 'us', sms: 'en', response: 'en' },
      { language: 'ky', sms: 'ky', response: 'ky' },
      { language: 'ky', accepts: 'en', stored: 'ru', sms: 'ky', response: 'ky' },
      { accepts: 'en', sms: 'en', response: 'en' },
      { accepts: 'en-US', sms: 'en', response: 'en' },
      { accepts: 'ky-KG,ky;q=0.9', sms: 'ky', response: 'ky' },
      { accepts: 'EN', sms: 'en', response: 'en' },
      { accepts: 'fr, ky;q=0.5, en;q=0.4', sms: 'ky', response: 'ky' },
      { accepts: 'ky;q=0.2, en;q=0.8', sms: 'en', response: 'en' },
      { accepts: 'ky;q=0, en;q=0.001', sms: 'en', response: 'en' },
      { accepts: 'en;q=0', sms: 'ru', response: 'ru' },
      { accepts: 'fr', sms: 'ru', response: 'ru' },
      { accepts: 'fr', stored: 'ky', sms: 'ky', response: 'ru' },
      { accepts: '*', sms: 'ru', response: 'ru' },
      { market: 'us', accepts: '*', stored: 'ky', sms: 'ky', response: 'en' },
      { accepts: '*;q=0.9, ky;q=0.1', sms: 'ky', response: 'ky' },
      { accepts: 'en;q=0.5, *', stored: 'ky', sms: 'en', response: 'en' },
      { accepts: '', stored: 'en', sms: 'en', response: 'ru' },
      { accepts: ';;,=,q', stored: 'en', sms: 'en', response: 'ru' },
      { accepts: 'en', stored: 'ky', sms: 'en', response: 'en' },
      { stored: 'ky', sms: 'ky', response: 'ru' },
      { stored: 'fr', sms: 'ru', response: 'ru' },
      { stored: '', sms: 'ru', response: 'ru' },
      { stored: null, market: 'us', sms: 'en', response: 'en' }
    ]
    for (const { market, language, accepts, stored, sms, response } of rows) {
      const phone = newPhone(market)
      if (stored !== undefined) {
        await service.sql('INSERT INTO users (phone_number, language) VALUES ($1, $2)', [phone, stored])
      }
      service.confidential.add(phone)
      const { body } = await service.request('POST', '/api/v1/auth/send-verification', {
        body: { phone, ...(language && { language }) },
        ...(accepts !== undefined && { headers: { 'accept-language': accepts } })
      })
      const message = service.sms.at(-1)
      const words = { ru: 'ваш код', en: 'your code is', ky: 'сиздин код' }[sms] as string
      t.strictSame([message?.to, message?.language, message?.text.includes(words), body.language],
        [phone, sms, true, response],
        JSON.stringify({ market, language, accepts, stored }))
    }
  })

  t.test('a send works under both prefixes', async (t) => {
    const service = await testService(t)
    const phone = newPhone()
    service.confidential.add(phone)
    t.equal((await service.request('POST', '/auth/send-verification', { body: { phone } })).status, 200)
    t.match(service.codeOf(phone), /^\d{6}$/)
  })

  t.test('a resend sends the same code, extends its life and does not restore its attempts', async (t) => {
    const service = await serviceOnClock(t)
    const phone = newPhone()
    await service.send(phone)
    const code = service.codeOf(phone)
    t.equal((await service.verify(phone, wrongCode(code))).body.attempts_remaining, 4)
    t.equal((await service.verify(phone, wrongCode(code))).body.attempts_remaining, 3)
    service.at(200)
    const resent = await service.send(phone)
    t.equal(resent.body.expires_in, 300)
    t.equal(service.codeOf(phone), code)
    t.equal(service.sms.length, 2)
    t.equal((await service.verify(phone, wrongCode(code))).body.attempts_remaining, 2)
    service.at(499)
    t.equal((await service.verify(phone, code)).status, 200)
  })

  t.test('expires_in counts to 600 s after the first send; below 120 s a new code is sent', async (t) => {
    const service = await serviceOnClock(t)
    const phone = newPhone()
    await service.send(phone)
    const code = service.codeOf(phone)
    service.at(250)
    t.match((await service.send(phone)).body, { expires_in: 300, expires_in_minutes: 5 })
    service.at(460)
    t.match((await service.send(phone)).body, { expires_in: 140, expires_in_minutes: 3 })
    t.equal(service.codeOf(phone), code)
    service.at(520)
    t.match((await service.send(phone)).body, { expires_in: 300, expires_in_minutes: 5 })
    const newCode = service.codeOf(phone)
    t.not(newCode, code)
    t.equal((await service.verify(phone, code)).body.attempts_remaining, 4)
    t.equal((await service.verify(phone, newCode)).status, 200)
  })

  t.test('after a login the next send has another code', async (t) => {
    const service = await serviceOnClock(t)
    const phone = newPhone()
    await service.login(phone)
    const code = service.codeOf(phone)
    service.at(60)
    await service.send(phone)
    t.not(service.codeOf(phone), code)
  })
})

t.test('422', async (t) => {
  const service = await testService(t)
  for (const [title, body, field] of [
    ['an unsupported language', { phone: '+996555100000', language: 'fr' }, '/language'],
    ['no number', {}, '/phone'],
    ['an invalid number', { phone: '+9965551' }, '/phone'],
    ['a number of the wrong type', { phone: 996555100000 }, '/phone']
  ] as const) {
    t.test(`${title} is named, and no message is sent`, async (t) => {
      const { status, body: response } = await service.request('POST', '/api/v1/auth/send-verification', { body })
      t.equal(status, 422)
      t.equal(response.code, 'invalid_request')
      t.strictSame(response.errors.map((error: { field: string }) => error.field), [field])
      t.strictSame(service.sms, [])
      t.strictSame(await service.redis.keys('phone-auth:code:*'), [])
    })
  }
})

t.test('429', async (t) => {
  t.test('a second send within the cooldown is refused with the remaining seconds', async (t) => {
    const service = await serviceOnClock(t)
    const phone = newPhone()
    await service.send(phone)
    for (const [at, left] of [[0, 60], [0.001, 60], [58.999, 2], [59.999, 1]] as const) {
      service.at(at)
      const response = await service.send(phone)
      t.equal(response.headers.get('retry-after'), String(left))
      t.strictSame(...problemOf(response, 429, 'Too Many Requests', 'resend_too_soon', { retry_after: left }))
    }
    service.at(60)
    t.equal((await service.send(phone)).status, 200)
    t.equal(service.sms.length, 2)
  })

  t.test('the retry_after of a send is the configured cooldown', async (t) => {
    const service = await serviceOnClock(t, { CODE_RESEND_SECONDS: '90' })
    const phone = newPhone()
    t.equal((await service.send(phone)).body.retry_after, 90)
    service.at(89)
    t.equal((await service.send(phone)).body.retry_after, 1)
    service.at(90)
    t.equal((await service.send(phone)).status, 200)
  })

  t.test('the cooldown ends when the code is used, exhausted or deleted', async (t) => {
    const service = await serviceOnClock(t)
    const phone = newPhone()
    const { token } = await service.login(phone)
    t.equal((await service.send(phone)).status, 200, 'used')
    t.equal((await service.send(phone)).body.code, 'resend_too_soon')
    for (let guesses = 0; guesses < 5; guesses++) await service.verify(phone, wrongCode(service.codeOf(phone)))
    t.equal((await service.send(phone)).status, 200, 'exhausted')
    t.equal((await service.request('DELETE', '/api/v1/users/me', { token })).status, 204)
    t.equal((await service.send(phone)).status, 200, 'deleted')
    t.equal((await service.send(phone)).body.code, 'resend_too_soon')
    t.equal((await service.verify(phone, service.codeOf(phone))).status, 200)
  })

  t.test('a code that expires before its cooldown ends the cooldown, as retry_after says', async (t) => {
    const service = await serviceOnClock(t, { CODE_TTL_SECONDS: '20' })
    const phone = newPhone()
    t.equal((await service.send(phone)).body.retry_after, 20)
    service.at(5)
    t.equal((await service.send(phone)).body.retry_after, 15)
    service.at(20)
    t.equal((await service.send(phone)).status, 200)
  })

  t.test('the hour that begins with the first send has five sends', async (t) => {
    const service = await serviceOnClock(t)
    const phone = newPhone()
    for (let sends = 0; sends < 5; sends++) {
      service.at(sends * 60)
      t.equal((await service.send(phone)).status, 200)
    }
    service.at(300)
    const response = await service.send(phone)
    t.equal(response.headers.get('retry-after'), String(hour - 300))
    t.strictSame(...problemOf(response, 429, 'Too Many Requests', 'too_many_sends', { retry_after: hour - 300 }))
    t.equal((await service.verify(phone, service.codeOf(phone))).status, 200, 'the sent code still works')
    service.at(360)
    t.equal((await service.send(phone)).status, 200, 'a login clears the cap')
    service.at(hour + 360)
    t.equal((await service.send(phone)).status, 200)
  })

  t.test('the day that begins with the first send has ten sends', async (t) => {
    const service = await serviceOnClock(t)
    const phone = newPhone()
    for (let sends = 0; sends < 10; sends++) {
      service.at(sends < 5 ? sends * 60 : hour + sends * 60)
      t.equal((await service.send(phone)).status, 200)
    }
    service.at(10 * hour)
    const response = await service.send(phone)
    t.strictSame(...problemOf(response, 429, 'Too Many Requests', 'too_many_sends', { retry_after: 14 * hour }))
    service.at(day)
    t.equal((await service.send(phone)).status, 200)
  })

  t.test('a day has at most fifty sends, and no login clears them', async (t) => {
    const service = await serviceOnClock(t)
    const phone = newPhone()
    for (let sends = 0; sends < 50; sends++) {
      service.at(sends * 60)
      t.equal((await service.send(phone)).status, 200)
      t.equal((await service.verify(phone, service.codeOf(phone))).status, 200)
    }
    service.at(50 * 60)
    t.strictSame(...problemOf(await service.send(phone), 429, 'Too Many Requests', 'too_many_sends',
      { retry_after: day - 50 * 60 }))
    service.at(day)
    t.equal((await service.send(phone)).status, 200)
  })

  t.test('a refused send does not count and does not extend the cooldown', async (t) => {
    const service = await serviceOnClock(t, { CODE_SENDS_PER_HOUR: '2' })
    const phone = newPhone()
    await service.send(phone)
    for (let tries = 0; tries < 10; tries++) {
      service.at(tries * 5)
      t.equal((await service.send(phone)).status, 429)
    }
    service.at(60)
    t.equal((await service.send(phone)).status, 200)
  })

  t.test('cooldown and caps are per number', async (t) => {
    const service = await serviceOnClock(t, { CODE_SENDS_PER_HOUR: '1' })
    await service.send(newPhone())
    t.equal((await service.send(newPhone())).status, 200)
  })
})

t.test('502', async (t) => {
  t.test('a first send that the provider refuses leaves nothing: the next send works at once', async (t) => {
    const service = await serviceWithProvider(t, { CODE_SENDS_PER_HOUR: '1', CODE_SENDS_PER_DAY: '1' })
    const phone = newPhone()
    service.failNext(new SmsRefused())
    const refused = await service.send(phone)
    t.strictSame(...problemOf(refused, 502, 'Bad Gateway', 'sms_failed'))
    const code = service.codeOf(phone)
    t.strictSame(await service.redis.keys('phone-auth:code:*'), [])
    const guess = await service.verify(phone, code)
    t.strictSame(...problemOf(guess, 400, 'Bad Request', 'invalid_code'))
    t.equal((await service.send(phone)).status, 200)
    t.equal((await service.verify(phone, service.codeOf(phone))).status, 200)
  })

  t.test('a resend that the provider refuses does not change the code, its attempts, expiry and caps', async (t) => {
    const service = await serviceWithProvider(t, { CODE_SENDS_PER_HOUR: '2' })
    const phone = newPhone()
    await service.send(phone)
    const code = service.codeOf(phone)
    t.equal((await service.verify(phone, wrongCode(code))).body.attempts_remaining, 4)
    service.at(100)
    service.failNext(new SmsRefused())
    t.equal((await service.send(phone)).body.code, 'sms_failed')
    t.equal((await service.verify(phone, wrongCode(code))).body.attempts_remaining, 3)
    t.match((await service.send(phone)).body, { expires_in: 300 }, 'neither cooldown nor cap is used')
    t.equal(service.codeOf(phone), code)
    t.equal((await service.verify(phone, code)).status, 200)
  })

  t.test('a refused resend does not extend the life of the code', async (t) => {
    const service = await serviceWithProvider(t)
    const phone = newPhone()
    await service.send(phone)
    const code = service.codeOf(phone)
    service.at(200)
    service.failNext(new SmsRefused())
    await service.send(phone)
    service.at(300)
    t.strictSame(...problemOf(await service.verify(phone, code), 400, 'Bad Request', 'invalid_code'))
  })

  t.test('a refused message with a new code keeps the code that it would have replaced', async (t) => {
    const service = await serviceWithProvider(t)
    const phone = newPhone()
    await service.send(phone)
    const code = service.codeOf(phone)
    service.at(250)
    await service.send(phone)
    service.at(500)
    service.failNext(new SmsRefused())
    t.equal((await service.send(phone)).status, 502)
    t.not(service.codeOf(phone), code)
    t.equal((await service.verify(phone, service.codeOf(phone))).body.attempts_remaining, 4)
    t.equal((await service.verify(phone, code)).status, 200)
  })

  for (const [title, failure] of [
    ['no response in time', new SmsUncertain()], ['an unknown failure', new Error('broken')]
  ] as const) {
    t.test(`${title} keeps code and cooldown, because the message may still arrive`, async (t) => {
      const service = await serviceWithProvider(t)
      const phone = newPhone()
      service.failNext(failure)
      const response = await service.send(phone)
      t.strictSame(...problemOf(response, 502, 'Bad Gateway', 'sms_failed'))
      t.equal((await service.send(phone)).body.code, 'resend_too_soon')
      t.equal((await service.verify(phone, service.codeOf(phone))).status, 200)
    })
  }
})
