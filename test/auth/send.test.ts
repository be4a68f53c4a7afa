import t, { type Test } from 'tap'
import { SmsRefused, SmsUncertain } from '../../src/messages/index.js'
import { problemOf, wrongCode } from '../helpers/responses.js'
import { newPhone, testService, type Service } from '../helpers/service.js'

const hour = 3600
const day = 86_400

/** A service whose clock stands where the test puts it, in seconds from now. */
async function serviceOnClock (t: Test, env: Record<string, string> = {}) {
  const start = Date.now()
  let now = start
  const service = await testService(t, { env, overrides: { clock: () => now } })
  return { ...service, at (seconds: number) { now = start + seconds * 1000 } }
}

/** A service on such a clock whose provider fails as the test says; every message that was tried is kept. */
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
  return { ...service, at (seconds: number) { now = start + seconds * 1000 }, failNext: (error: Error) => { failures.push(error) } }
}

t.test('200', async (t) => {
  t.test('one message goes out, with the code in the language and to the number of the request', async (t) => {
    const service = await testService(t)
    const phone = newPhone()
    const { status, headers } = await service.send(phone)
    t.equal(status, 200)
    t.equal(headers.get('cache-control'), 'no-store')
    const code = service.codeOf(phone)
    const [message] = service.sms
    t.match(message?.id, /^[0-9a-f-]{36}$/)
    t.strictSame(service.sms, [{ id: message?.id, to: phone, text: `Marque: ваш код ${code}`, market: 'kg', language: 'ru' }])
  })

  t.test('a number goes out and comes back in its own form, however it was typed', async (t) => {
    const service = await testService(t)
    for (const typed of ['+1 (312) 805-9851', '13128059852', '1-312-805-9853']) {
      const { body } = await service.send(typed)
      t.match(body.phone_number, /^\+1 \(312\) 805-985\d$/)
      service.confidential.add(service.sms.at(-1)!.to)
    }
    t.strictSame(service.sms.map(({ to }) => to), ['+13128059851', '+13128059852', '+13128059853'])
  })

  t.test('the answer tells nobody whether the number has an account', async (t) => {
    const service = await testService(t)
    const [known, unknown] = [newPhone(), newPhone()]
    await service.sql("INSERT INTO users (phone_number, full_name, language, is_verified) VALUES ($1, 'A name', 'ky', TRUE)", [known])
    const answers = [await service.send(known), await service.send(unknown)]
    const [first, second] = answers.map(({ status, headers, body }) => ({
      status,
      headers: [...headers.entries()].filter(([name]) => !['date', 'x-request-id', 'ratelimit', 'ratelimit-remaining', 'ratelimit-reset'].includes(name)),
      body: { ...body, phone_number: '' }
    }))
    t.strictSame(first, second)
    t.strictSame(service.sms.map(({ language }) => language), ['ky', 'ru'], 'though the messages differ')
  })

  t.test('the language is that of the body, else of Accept-Language, else of the market; a stored one shapes the message only', async (t) => {
    const service = await testService(t)
    const rows: Array<{ market?: 'kg' | 'us', language?: string, accepts?: string, stored?: string | null, sms: string, answer: string }> = [
      { sms: 'ru', answer: 'ru' },
      { market: 'us', sms: 'en', answer: 'en' },
      { language: 'ky', sms: 'ky', answer: 'ky' },
      { language: 'ky', accepts: 'en', stored: 'ru', sms: 'ky', answer: 'ky' },
      { accepts: 'en', sms: 'en', answer: 'en' },
      { accepts: 'en-US', sms: 'en', answer: 'en' },
      { accepts: 'ky-KG,ky;q=0.9', sms: 'ky', answer: 'ky' },
      { accepts: 'EN', sms: 'en', answer: 'en' },
      { accepts: 'fr, ky;q=0.5, en;q=0.4', sms: 'ky', answer: 'ky' },
      { accepts: 'ky;q=0.2, en;q=0.8', sms: 'en', answer: 'en' },
      { accepts: 'ky;q=0, en;q=0.001', sms: 'en', answer: 'en' },
      { accepts: 'en;q=0', sms: 'ru', answer: 'ru' },
      { accepts: 'fr', sms: 'ru', answer: 'ru' },
      { accepts: 'fr', stored: 'ky', sms: 'ky', answer: 'ru' },
      { accepts: '*', sms: 'ru', answer: 'ru' },
      { market: 'us', accepts: '*', stored: 'ky', sms: 'ky', answer: 'en' },
      { accepts: '*;q=0.9, ky;q=0.1', sms: 'ky', answer: 'ky' },
      { accepts: 'en;q=0.5, *', stored: 'ky', sms: 'en', answer: 'en' },
      { accepts: '', stored: 'en', sms: 'en', answer: 'ru' },
      { accepts: ';;,=,q', stored: 'en', sms: 'en', answer: 'ru' },
      { accepts: 'en', stored: 'ky', sms: 'en', answer: 'en' },
      { stored: 'ky', sms: 'ky', answer: 'ru' },
      { stored: 'fr', sms: 'ru', answer: 'ru' },
      { stored: '', sms: 'ru', answer: 'ru' },
      { stored: null, market: 'us', sms: 'en', answer: 'en' }
    ]
    for (const { market, language, accepts, stored, sms, answer } of rows) {
      const phone = newPhone(market)
      if (stored !== undefined) await service.sql('INSERT INTO users (phone_number, language) VALUES ($1, $2)', [phone, stored])
      service.confidential.add(phone)
      const { body } = await service.request('POST', '/api/v1/auth/send-verification', {
        body: { phone, ...(language && { language }) },
        ...(accepts !== undefined && { headers: { 'accept-language': accepts } })
      })
      const message = service.sms.at(-1)
      const words = { ru: 'ваш код', en: 'your code is', ky: 'сиздин код' }[sms] as string
      t.strictSame([message?.to, message?.language, message?.text.includes(words), body.language], [phone, sms, true, answer],
        JSON.stringify({ market, language, accepts, stored }))
    }
  })

  t.test('both prefixes send', async (t) => {
    const service = await testService(t)
    const phone = newPhone()
    service.confidential.add(phone)
    t.equal((await service.request('POST', '/auth/send-verification', { body: { phone } })).status, 200)
    t.match(service.codeOf(phone), /^\d{6}$/)
  })

  t.test('a resend within its life brings the same code for a longer time and does not refill its attempts', async (t) => {
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

  t.test('expires_in is what is left of 600 s from the first send, and below 120 s a new code goes out', async (t) => {
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

  t.test('after a login the next code is another one', async (t) => {
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
    ['a language that no message has', { phone: '+996555100000', language: 'fr' }, '/language'],
    ['no number', {}, '/phone'],
    ['a number that is none', { phone: '+9965551' }, '/phone'],
    ['a number of another type', { phone: 996555100000 }, '/phone']
  ] as const) {
    t.test(`${title} sends nothing and is named`, async (t) => {
      const { status, body: answer } = await service.request('POST', '/api/v1/auth/send-verification', { body })
      t.equal(status, 422)
      t.equal(answer.code, 'invalid_request')
      t.strictSame(answer.errors.map((error: { field: string }) => error.field), [field])
      t.strictSame(service.sms, [])
      t.strictSame(await service.redis.keys('phone-auth:code:*'), [])
    })
  }
})

t.test('429', async (t) => {
  t.test('a second send within the cooldown sends nothing and says how long is left', async (t) => {
    const service = await serviceOnClock(t)
    const phone = newPhone()
    await service.send(phone)
    for (const [at, left] of [[0, 60], [0.001, 60], [58.999, 2], [59.999, 1]] as const) {
      service.at(at)
      const answer = await service.send(phone)
      t.equal(answer.headers.get('retry-after'), String(left))
      t.strictSame(...problemOf(answer, 429, 'Too Many Requests', 'resend_too_soon', { retry_after: left }))
    }
    service.at(60)
    t.equal((await service.send(phone)).status, 200)
    t.equal(service.sms.length, 2)
  })

  t.test('the retry_after of a send is the cooldown that is set', async (t) => {
    const service = await serviceOnClock(t, { CODE_RESEND_SECONDS: '90' })
    const phone = newPhone()
    t.equal((await service.send(phone)).body.retry_after, 90)
    service.at(89)
    t.equal((await service.send(phone)).body.retry_after, 1)
    service.at(90)
    t.equal((await service.send(phone)).status, 200)
  })

  t.test('the cooldown ends with a code that is used, exhausted or deleted; resend_too_soon means that one is on its way', async (t) => {
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

  t.test('a code that lives shorter than the cooldown ends it, and retry_after says so', async (t) => {
    const service = await serviceOnClock(t, { CODE_TTL_SECONDS: '20' })
    const phone = newPhone()
    t.equal((await service.send(phone)).body.retry_after, 20)
    service.at(5)
    t.equal((await service.send(phone)).body.retry_after, 15)
    service.at(20)
    t.equal((await service.send(phone)).status, 200)
  })

  t.test('five sends fit into the hour that begins with the first one', async (t) => {
    const service = await serviceOnClock(t)
    const phone = newPhone()
    for (let sends = 0; sends < 5; sends++) {
      service.at(sends * 60)
      t.equal((await service.send(phone)).status, 200)
    }
    service.at(300)
    const answer = await service.send(phone)
    t.equal(answer.headers.get('retry-after'), String(hour - 300))
    t.strictSame(...problemOf(answer, 429, 'Too Many Requests', 'too_many_sends', { retry_after: hour - 300 }))
    t.equal((await service.verify(phone, service.codeOf(phone))).status, 200, 'the code that was sent works on')
    service.at(360)
    t.equal((await service.send(phone)).status, 200, 'and a login clears the cap')
    service.at(hour + 360)
    t.equal((await service.send(phone)).status, 200)
  })

  t.test('ten sends fit into the day that begins with the first one', async (t) => {
    const service = await serviceOnClock(t)
    const phone = newPhone()
    for (let sends = 0; sends < 10; sends++) {
      service.at(sends < 5 ? sends * 60 : hour + sends * 60)
      t.equal((await service.send(phone)).status, 200)
    }
    service.at(10 * hour)
    const answer = await service.send(phone)
    t.strictSame(...problemOf(answer, 429, 'Too Many Requests', 'too_many_sends', { retry_after: 14 * hour }))
    service.at(day)
    t.equal((await service.send(phone)).status, 200)
  })

  t.test('fifty sends are all that a day has, and no login clears them', async (t) => {
    const service = await serviceOnClock(t)
    const phone = newPhone()
    for (let sends = 0; sends < 50; sends++) {
      service.at(sends * 60)
      t.equal((await service.send(phone)).status, 200)
      t.equal((await service.verify(phone, service.codeOf(phone))).status, 200)
    }
    service.at(50 * 60)
    t.strictSame(...problemOf(await service.send(phone), 429, 'Too Many Requests', 'too_many_sends', { retry_after: day - 50 * 60 }))
    service.at(day)
    t.equal((await service.send(phone)).status, 200)
  })

  t.test('what is refused is no send: it neither counts nor moves the cooldown', async (t) => {
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

  t.test('a number is told to wait on its own', async (t) => {
    const service = await serviceOnClock(t, { CODE_SENDS_PER_HOUR: '1' })
    await service.send(newPhone())
    t.equal((await service.send(newPhone())).status, 200)
  })
})

t.test('502', async (t) => {
  t.test('a first send that the provider refuses leaves nothing: another one goes out at once', async (t) => {
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

  t.test('a resend that the provider refuses leaves the earlier code, its attempts, its end and its quota as they were', async (t) => {
    const service = await serviceWithProvider(t, { CODE_SENDS_PER_HOUR: '2' })
    const phone = newPhone()
    await service.send(phone)
    const code = service.codeOf(phone)
    t.equal((await service.verify(phone, wrongCode(code))).body.attempts_remaining, 4)
    service.at(100)
    service.failNext(new SmsRefused())
    t.equal((await service.send(phone)).body.code, 'sms_failed')
    t.equal((await service.verify(phone, wrongCode(code))).body.attempts_remaining, 3)
    t.match((await service.send(phone)).body, { expires_in: 300 }, 'neither cooldown nor quota is spent')
    t.equal(service.codeOf(phone), code)
    t.equal((await service.verify(phone, code)).status, 200)
  })

  t.test('a refused resend does not lengthen the life of the code', async (t) => {
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

  t.test('a refused message with a new code leaves the code it should have replaced', async (t) => {
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

  for (const [title, failure] of [['no answer in time', new SmsUncertain()], ['a failure of an unknown kind', new Error('broken')]] as const) {
    t.test(`${title} leaves code and cooldown, for the message may still arrive`, async (t) => {
      const service = await serviceWithProvider(t)
      const phone = newPhone()
      service.failNext(failure)
      const answer = await service.send(phone)
      t.strictSame(...problemOf(answer, 502, 'Bad Gateway', 'sms_failed'))
      t.equal((await service.send(phone)).body.code, 'resend_too_soon')
      t.equal((await service.verify(phone, service.codeOf(phone))).status, 200)
    })
  }
})
