import t from 'tap'
import { segmentOf, smsText } from '../../src/messages/text.js'
import { ConfigError, loadConfig } from '../../src/config/index.js'
import { languages, type Language } from '../../src/phone/markets.js'

const config = (env: Record<string, string> = {}) =>
  loadConfig({ NODE_ENV: 'development', DATABASE_URL: 'postgres://h/d', ...env })
const webOtp = { SMS_WEBOTP_DOMAIN: 'app.example.com' }
const android = { SMS_ANDROID_HASH: 'FA+9qCX9VSu' }

/** Every message, with its places and the limit of its segment. */
type Message = [env: Record<string, string>, language: Language, text: string, places: number, limit: number]
const messages: Message[] = [
  [{}, 'ru', 'Marque: ваш код 012345', 22, 70],
  [{}, 'en', 'Marque: your code is 012345', 27, 160],
  [{}, 'ky', 'Marque: сиздин код 012345', 25, 70],
  [webOtp, 'ru', 'Marque: ваш код 012345\n\n@app.example.com #012345', 48, 70],
  [webOtp, 'en', 'Marque: your code is 012345\n\n@app.example.com #012345', 53, 160],
  [webOtp, 'ky', 'Marque: сиздин код 012345\n\n@app.example.com #012345', 51, 70],
  [android, 'ru', 'Marque: ваш код 012345\n\nFA+9qCX9VSu', 35, 70],
  [android, 'en', 'Marque: your code is 012345\n\nFA+9qCX9VSu', 40, 160],
  [android, 'ky', 'Marque: сиздин код 012345\n\nFA+9qCX9VSu', 38, 70]
]

for (const [env, language, text, places, limit] of messages) {
  const setting = Object.keys(env)[0] ?? 'no autofill line'
  t.test(`the ${language} message with ${setting} contains app and code, and is one SMS`, async (t) => {
    t.equal(smsText(config(env).message, language, '012345'), text)
    t.strictSame(segmentOf(text), { places, limit })
    t.comment(`${JSON.stringify(text)}: ${places} of ${limit}`)
  })
}

t.test('every message starts with SMS_APP_NAME', async (t) => {
  const { message } = config({ SMS_APP_NAME: 'Acme' })
  for (const language of languages) t.match(smsText(message, language, '012345'), /^Acme: .* 012345$/)
})

t.test('the last line binds a code to its domain in the form that browsers read: @host #code', async (t) => {
  for (const language of languages) {
    const lines = smsText(config(webOtp).message, language, '000001').split('\n')
    t.match(lines.at(-1), /^@app\.example\.com #000001$/)
  }
})

t.test('one SMS has 160 places of GSM 7-bit, two per extension character, or 70 units of UTF-16', async (t) => {
  t.strictSame(segmentOf('Ω@é\n'.repeat(40)), { places: 160, limit: 160 }, 'the alphabet has letters beyond ASCII')
  for (const extended of ['^', '{', '}', '\\', '[', '~', ']', '|', '€', '\f']) {
    t.strictSame(segmentOf(`a${extended}`), { places: 3, limit: 160 }, extended)
  }
  for (const other of ['ж', 'ө', 'ç', '`', '\t', '’', '–', '\u00a0']) {
    t.strictSame(segmentOf(`${other}[a`), { places: 3, limit: 70 }, `${other} makes the whole message UTF-16`)
  }
  t.strictSame(segmentOf('😀'), { places: 2, limit: 70 })
})

/** Returns the issues that loadConfig reports. */
const issues = (env: Record<string, string>) => {
  try {
    config(env)
    return []
  } catch (error) {
    if (error instanceof ConfigError) return error.issues
    throw error
  }
}

t.test('loadConfig refuses a message longer than one SMS and reports its language and length', async (t) => {
  // With a Latin name, the English message has 160 places, the Russian and Kyrgyz ones 70.
  const longer = (language: string, by: number, limit: number) =>
    `SMS_APP_NAME makes the ${language} message longer than one SMS by ${by}: ${limit + by} of ${limit} characters`
  t.strictSame(issues({ SMS_APP_NAME: 'x'.repeat(51) }), [])
  t.strictSame(issues({ SMS_APP_NAME: 'x'.repeat(52) }), [longer('ky', 1, 70)])
  t.strictSame(issues({ SMS_APP_NAME: 'x'.repeat(55) }), [longer('ru', 1, 70), longer('ky', 4, 70)])
  t.strictSame(issues({ SMS_APP_NAME: 'x'.repeat(142) }), [
    longer('ru', 88, 70), longer('en', 3, 160), longer('ky', 91, 70)
  ])
  t.strictSame(issues({ SMS_APP_NAME: '['.repeat(51) }), [], 'two places each, of 160')
  t.strictSame(issues({ SMS_APP_NAME: 'ж'.repeat(51) }), [longer('en', 2, 70)])
})

t.test('the autofill line counts towards the length, and the issue mentions its variable', async (t) => {
  const of = 'SMS_APP_NAME and SMS_WEBOTP_DOMAIN make'
  t.strictSame(issues({ ...webOtp, SMS_APP_NAME: 'x'.repeat(25) }), [])
  t.strictSame(issues({ SMS_WEBOTP_DOMAIN: `${'a'.repeat(40)}.example` }), [
    `${of} the ru message longer than one SMS by 11: 81 of 70 characters`,
    `${of} the ky message longer than one SMS by 14: 84 of 70 characters`
  ])
})

t.test('loadConfig refuses a message above 140 bytes if it has an Android hash', async (t) => {
  const of = 'SMS_APP_NAME and SMS_ANDROID_HASH make'
  t.strictSame(issues({ ...android, SMS_APP_NAME: '語'.repeat(33) }), [])
  t.strictSame(issues({ ...android, SMS_APP_NAME: '語'.repeat(34) }), [
    `${of} the ky message longer than Android reads by 3: 143 of 140 bytes`
  ], 'it takes only 66 of 70 places')
  t.strictSame(issues({ ...android, SMS_APP_NAME: 'x'.repeat(107) }).filter((issue) => issue.includes(' en ')), [
    `${of} the en message longer than Android reads by 1: 141 of 140 bytes`
  ], 'it takes only 141 of 160 places')
  t.strictSame(issues({ SMS_APP_NAME: '語'.repeat(43) }), [], 'without a hash, bytes do not count')
})
