import t from 'tap'
import {
  defaultMarket, formatPhone, isLanguage, isMarket, marketIds, marketOf, markets, maskPhone
} from '../../src/phone/markets.js'
import { parsePhone } from '../../src/phone/phone-number.js'

t.test('a number is formatted for its market', async (t) => {
  t.equal(formatPhone('+13128059851'), '+1 (312) 805-9851')
  t.equal(formatPhone('+996555123456'), '+996 555 123 456')
})

t.test('a number that fits no format is unchanged', async (t) => {
  for (const phone of ['+442071838750', '+99655512345', '+9965551234567', '+1312805985', '', '555']) {
    t.equal(formatPhone(phone), phone)
  }
})

t.test('a formatted number is parsed as the same number', async (t) => {
  for (const phone of ['+13128059851', '+996555123456']) t.match(parsePhone(formatPhone(phone)), { ok: true, phone })
})

t.test('a masked number has the prefix of its market and two digits, and does not reveal its length', async (t) => {
  t.equal(maskPhone('+13128059851'), '+1•••••••51')
  t.equal(maskPhone('+996555123456'), '+996•••••••56')
  t.equal(maskPhone('+442071838750'), '•••••••50')
  t.equal(maskPhone('+4420718387509'), '•••••••09')
})

t.test('the market of a row is its column, otherwise that of its number, otherwise the default', async (t) => {
  t.equal(marketOf('kg', '+13128059851'), 'kg')
  t.equal(marketOf('us', '+996555123456'), 'us')
  for (const unknown of [null, '', 'KG', 'zz', 'constructor', '__proto__']) {
    t.equal(marketOf(unknown, '+13128059851'), 'us', `${unknown}`)
    t.equal(marketOf(unknown, '+996555123456'), 'kg', `${unknown}`)
    t.equal(marketOf(unknown, '+15651234567'), 'us', `${unknown}, a range that the numbering plan lacks`)
    for (const phone of ['+442071838750', '+14165551234', 'unknown', '']) {
      t.equal(marketOf(unknown, phone), defaultMarket, `${unknown} ${phone}`)
    }
  }
})

t.test('only entries of the table are markets', async (t) => {
  t.strictSame(marketIds, ['kg', 'us'])
  t.equal(defaultMarket, 'kg')
  for (const id of marketIds) t.ok(isMarket(id))
  for (const other of ['KG', 'zz', '', 'toString', 'constructor', '__proto__', null, undefined, 1, ['kg']]) {
    t.notOk(isMarket(other), String(other))
  }
})

t.test('only ru, en and ky are languages', async (t) => {
  for (const language of ['ru', 'en', 'ky']) t.ok(isLanguage(language))
  for (const other of ['RU', 'zz', '', null, undefined, 0]) t.notOk(isLanguage(other), String(other))
})

t.test('the table of markets is as in the contract', async (t) => {
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
