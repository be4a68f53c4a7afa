import t from 'tap'
import { smsSender } from '../../../src/auth/sms/index.js'
import { smsText, tooLong } from '../../../src/auth/sms/text.js'
import { ConfigError, loadConfig } from '../../../src/config.js'
import { languages } from '../../../src/markets.js'

const config = (env: Record<string, string> = {}) => loadConfig({ NODE_ENV: 'development', DATABASE_URL: 'postgres://h/d', ...env })
const webOtp = { SMS_WEBOTP_DOMAIN: 'app.example.com' }
const android = { SMS_ANDROID_HASH: 'FA+9qCX9VSu' }

t.test('a message names the app and the code in each language', async (t) => {
  t.equal(smsText(config(), 'ru', '012345'), 'Marque: ваш код 012345')
  t.equal(smsText(config(), 'en', '012345'), 'Marque: your code is 012345')
  t.equal(smsText(config(), 'ky', '012345'), 'Marque: сиздин код 012345')
  t.equal(smsText(config({ SMS_APP_NAME: 'Acme' }), 'en', '012345'), 'Acme: your code is 012345')
})

t.test('with a WebOTP domain the last line binds the code to it', async (t) => {
  t.equal(smsText(config(webOtp), 'ru', '012345'), 'Marque: ваш код 012345\n\n@app.example.com #012345')
  t.equal(smsText(config(webOtp), 'en', '012345'), 'Marque: your code is 012345\n\n@app.example.com #012345')
  t.equal(smsText(config(webOtp), 'ky', '012345'), 'Marque: сиздин код 012345\n\n@app.example.com #012345')
})

t.test('with an Android hash the last line is that hash', async (t) => {
  t.equal(smsText(config(android), 'ru', '012345'), 'Marque: ваш код 012345\n\nFA+9qCX9VSu')
  t.equal(smsText(config(android), 'en', '012345'), 'Marque: your code is 012345\n\nFA+9qCX9VSu')
  t.equal(smsText(config(android), 'ky', '012345'), 'Marque: сиздин код 012345\n\nFA+9qCX9VSu')
})

t.test('one SMS holds 160 characters of GSM 7-bit, and 70 where one of them is beyond it', async (t) => {
  t.notOk(tooLong('a'.repeat(160)))
  t.ok(tooLong('a'.repeat(161)))
  t.notOk(tooLong('Ω@é'.repeat(53)), 'the alphabet has a few more letters than ASCII')
  for (const other of ['ж', 'ө', 'ç', '[', '€', '`', '\t']) {
    t.notOk(tooLong(other + 'a'.repeat(69)), other)
    t.ok(tooLong(other + 'a'.repeat(70)), other)
  }
  t.ok(tooLong('😀' + 'a'.repeat(69)), 'what UTF-16 needs two units for takes two places')
})

t.test('every message is one SMS, with each autofill line', async (t) => {
  for (const language of languages) {
    for (const env of [{}, webOtp, android]) t.notOk(tooLong(smsText(config(env), language, '012345')), `${language} ${Object.keys(env)}`)
  }
})

t.test('a name that makes a message longer than one SMS refuses to start, and says in which languages', async (t) => {
  // The English message of a Latin name has 160 places, the Russian and Kyrgyz ones 70.
  const problems = (env: Record<string, string>) => {
    try {
      smsSender(config(env))
      return []
    } catch (error) {
      if (error instanceof ConfigError) return error.problems
      throw error
    }
  }
  const longer = (language: string) => `SMS_APP_NAME makes the ${language} message longer than one SMS`
  t.strictSame(problems({ SMS_APP_NAME: 'x'.repeat(51) }), [])
  t.strictSame(problems({ SMS_APP_NAME: 'x'.repeat(52) }), [longer('ky')])
  t.strictSame(problems({ SMS_APP_NAME: 'x'.repeat(55) }), [longer('ru'), longer('ky')])
  t.strictSame(problems({ SMS_APP_NAME: 'x'.repeat(142) }), [longer('ru'), longer('en'), longer('ky')])
  t.strictSame(problems({ SMS_APP_NAME: 'ж'.repeat(51) }), [longer('en')])
  t.strictSame(problems({ SMS_APP_NAME: 'x'.repeat(40), SMS_WEBOTP_DOMAIN: 'app.example.com' }), [longer('ru'), longer('ky')], 'the autofill line counts')
})
