import fc from 'fast-check'
import t from 'tap'
import { isProblem } from '../src/errors.js'
import {
  defaultMarket, formatPhone, isLanguage, isMarket, marketIds, marketOf, markets, maskPhone, parsePhone
} from '../src/markets.js'

/** What parsePhone answers, or the error it throws, without its sentences. */
function read (input: string): object {
  try {
    return parsePhone(input)
  } catch (error) {
    if (!isProblem(error)) throw error
    return { code: error.problemCode, status: error.statusCode, fields: error.errors?.map(({ field }) => field) }
  }
}
const invalid = { code: 'invalid_request', status: 422, fields: ['/phone'] }
const unsupported = { code: 'unsupported_phone', status: 422, fields: undefined }

t.test('a number is understood however people type it', async (t) => {
  const spellings = {
    '+996555123456': [
      '+996555123456', '996555123456', '+996 555 123 456', '996 555 123 456', '+996-555-123-456', '+996 (555) 12-34-56',
      '(996) 555 123456', '  +996 555 123 456  ', '+ 996 555123456', '(+996) 555-123-456', '+996 (0) 555 123 456'
    ],
    '+13128059851': [
      '+13128059851', '13128059851', '+1 (312) 805-9851', '1 (312) 805-9851', '1-312-805-9851', '+1 312 805 9851', '+1(312)8059851'
    ]
  }
  for (const [phone, inputs] of Object.entries(spellings)) {
    const market = phone.startsWith('+1') ? 'us' : 'kg'
    for (const input of inputs) t.strictSame(read(input), { phone, market }, input)
  }
})

t.test('separators between the digits never change which number is meant', async () => {
  const separators = fc.array(fc.constantFrom('', ' ', '-', '(', ')', ' (', ') '), { minLength: 12, maxLength: 12 })
  const number = fc.integer({ min: 0, max: 999_999 }).map((last) => `996555${String(last).padStart(6, '0')}`)
  fc.assert(fc.property(number, separators, fc.constantFrom('', '+'), (digits, between, plus) => {
    const typed = plus + [...digits].map((digit, i) => digit + between[i]).join('')
    const { phone, market } = parsePhone(typed)
    return phone === `+${digits}` && market === 'kg'
  }))
})

t.test('every kind of Kyrgyz mobile number and any US geographic number is taken', async (t) => {
  for (const phone of ['+996200123456', '+996500123456', '+996555123456', '+996700123456', '+996770123456', '+996990123456', '+996312580123']) {
    t.strictSame(read(phone), { phone, market: 'kg' }, phone)
  }
  for (const phone of ['+13125550100', '+12125551234', '+19075551234', '+18085551234']) {
    t.strictSame(read(phone), { phone, market: 'us' }, phone)
  }
})

t.test('what is no phone number is invalid_request at /phone', async (t) => {
  for (const input of [
    '', ' ', '+', '()', 'phone', '+996 555 123 45a', 'tel:+996555123456', '1-312-FLOWERS',
    '+996555123456 ext 7', '+996555123456x7', '+996555123456#7', '+996555123456;ext=7', '+996555123456,7', '+996.555.123.456',
    '+996/555123456', '++996555123456', '+996555+123456', '996555123456+',
    '+996555123456\0', '\0+996555123456', '+996555\u0000123456', '+996555123456\n', '\t+996555123456', '+996\u00a0555123456',
    '+９９６５５５１２３４５６', '＋996555123456', '+٩٩٦٥٥٥١٢٣٤٥٦', '\ud800', '+996555123456\u200b', '+996–555–123–456',
    '0555123456', '00996555123456', '+99655512345', '+9965551234567', '+1312805985', '+131280598511', '+10005551234', '+999999999999'
  ]) t.strictSame(read(input), invalid, JSON.stringify(input))
})

t.test('a real number of no market is unsupported_phone', async (t) => {
  for (const phone of [
    '+79161234567', '+77011234567', '+442071838750', '+8613800138000', '+4915112345678',
    // The North American plan beyond the United States: Canada, the Caribbean, the Pacific.
    '+14165551234', '+16045551234', '+18765551234', '+18095551234', '+12425021234', '+18683012345', '+17875551234', '+16714801234', '+16847331234'
  ]) t.strictSame(read(phone), unsupported, phone)
})

t.test('a number of a market that takes no SMS is unsupported_phone', async (t) => {
  for (const [kind, phone] of Object.entries({
    'toll-free us': '+18005551234',
    'toll-free us, a later prefix': '+18335551234',
    'premium us': '+19002345678',
    'personal number us': '+15005551234',
    'toll-free kg': '+996800123456',
    'fixed line kg': '+996312123456',
    'toll-free of no country': '+80012345678'
  })) t.strictSame(read(phone), unsupported, kind)
})

t.test('a short number is unsupported_phone, with the prefix of a country or without', async (t) => {
  for (const input of ['911', '112', '102', '+112', '1 1 2', '+1 911', '+996 102', '123456', '0']) t.strictSame(read(input), unsupported, input)
})

t.test('a number is shown in the format of its market', async (t) => {
  t.equal(formatPhone('+13128059851'), '+1 (312) 805-9851')
  t.equal(formatPhone('+996555123456'), '+996 555 123 456')
})

t.test('a number that fits no format is shown as it is', async (t) => {
  for (const phone of ['+442071838750', '+99655512345', '+9965551234567', '+1312805985', '', '555']) t.equal(formatPhone(phone), phone)
})

t.test('the number that is shown is read as the same number', async (t) => {
  for (const phone of ['+13128059851', '+996555123456']) t.equal(parsePhone(formatPhone(phone)).phone, phone)
})

t.test('a masked number keeps the prefix of its market and two digits, and does not tell its length', async (t) => {
  t.equal(maskPhone('+13128059851'), '+1•••••••51')
  t.equal(maskPhone('+996555123456'), '+996•••••••56')
  t.equal(maskPhone('+442071838750'), '•••••••50')
  t.equal(maskPhone('+4420718387509'), '•••••••09')
})

t.test('the market of a row is its own where the service knows it, else that of its number, else the default', async (t) => {
  t.equal(marketOf('kg', '+13128059851'), 'kg')
  t.equal(marketOf('us', '+996555123456'), 'us')
  for (const unknown of [null, '', 'KG', 'zz', 'constructor', '__proto__']) {
    t.equal(marketOf(unknown, '+13128059851'), 'us', `${unknown}`)
    t.equal(marketOf(unknown, '+996555123456'), 'kg', `${unknown}`)
    for (const phone of ['+442071838750', '+14165551234', 'unknown', '']) t.equal(marketOf(unknown, phone), defaultMarket, `${unknown} ${phone}`)
  }
})

t.test('only an entry of the table is a market', async (t) => {
  t.strictSame(marketIds, ['kg', 'us'])
  t.equal(defaultMarket, 'kg')
  for (const id of marketIds) t.ok(isMarket(id))
  for (const other of ['KG', 'zz', '', 'toString', 'constructor', '__proto__', null, undefined, 1, ['kg']]) t.notOk(isMarket(other), String(other))
})

t.test('only ru, en and ky are languages', async (t) => {
  for (const language of ['ru', 'en', 'ky']) t.ok(isLanguage(language))
  for (const other of ['RU', 'zz', '', null, undefined, 0]) t.notOk(isLanguage(other), String(other))
})

t.test('the table of markets is that of the contract', async (t) => {
  t.strictSame(markets, {
    kg: {
      country: 'Kyrgyzstan',
      countryCode: 'KG',
      prefix: '+996',
      language: 'ru',
      currency: 'сом',
      currencyCode: 'KGS',
      phoneFormat: '+996 XXX XXX XXX'
    },
    us: {
      country: 'United States',
      countryCode: 'US',
      prefix: '+1',
      language: 'en',
      currency: '$',
      currencyCode: 'USD',
      phoneFormat: '+1 (XXX) XXX-XXXX'
    }
  })
})
