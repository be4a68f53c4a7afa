import fc from 'fast-check'
import t from 'tap'
import {
  canonicalPhone, parsePhone, withoutSeparators, type ParseOptions, type PhoneFault
} from '../../src/phone/phone-number.js'

/** The number that an input is parsed as, otherwise the fault. */
function read (input: string, options?: ParseOptions): string {
  const parsed = parsePhone(input, options)
  return parsed.ok ? `${parsed.phone} ${parsed.market}` : parsed.fault
}

const faultsOf = (inputs: string[], options?: ParseOptions) =>
  Object.fromEntries(inputs.map((input) => [input, read(input, options)]))
const all = (inputs: string[], fault: PhoneFault) => Object.fromEntries(inputs.map((input) => [input, fault]))

/** One separator of each kind: Zs, Pd, Cf, and the others in CONTRACT, section 4. */
const ignored = [
  ' ', '\u00a0', '\u1680', '\u2009', '\u202f', '\u3000', '-', '\u058a', '\u2010', '\u2011', '\u2013', '\u2014',
  '\uff0d',
  '\u00ad', '\u061c', '\u200b', '\u200d', '\u200e', '\u202a', '\u202c', '\u2060', '\u2066', '\u2069', '\ufeff', '\t',
  '.', '(', ')'
]

t.test('a number with its country code is accepted in every spelling', async (t) => {
  const spellings = {
    '+996555123456 kg': [
      '+996555123456', '996555123456', '+996 555 123 456', '996 555 123 456', '+996-555-123-456', '+996 (555) 12-34-56',
      '(996) 555 123456', '  +996 555 123 456  ', '+ 996 555123456', '(+996) 555-123-456', '+996 (0) 555 123 456',
      '+996.555.123.456', '00996555123456', '00 996 555 12 34 56', '+996\u00a0555\u00a0123\u2011456',
      '\u202a+996 555 123 456\u202c',
      '\ufeff+996555123456', '+996555123456\u200b', '+996–555–123–456', '\t+996555123456'
    ],
    '+13128059851 us': [
      '+13128059851', '13128059851', '+1 (312) 805-9851', '1 (312) 805-9851', '1-312-805-9851', '+1 312.805.9851',
      '+1(312)8059851',
      '001 312 805 9851', '+1\u2009312\u2009805\u20119851'
    ]
  }

  for (const [expected, inputs] of Object.entries(spellings)) {
    for (const input of inputs) t.equal(read(input), expected, JSON.stringify(input))
  }
})

t.test('separators and invisible characters between the digits never change the number', async () => {
  const separators = fc.array(fc.constantFrom('', ...ignored), { minLength: 13, maxLength: 13 })
  const number = fc.integer({ min: 0, max: 999_999 }).map((last) => `996555${String(last).padStart(6, '0')}`)

  fc.assert(fc.property(number, separators, fc.constantFrom('', '+', '00'), (digits, between, announced) => {
    const typed = between[12] + announced + [...digits].map((digit, i) => digit + between[i]).join('')
    return read(typed) === `+${digits} kg`
  }))
})

t.test('only separators and invisible characters are removed from a code', async (t) => {
  for (const character of ignored) {
    t.equal(withoutSeparators(`${character}483${character}920${character}`), '483920', JSON.stringify(character))
  }
  for (const kept of ['\n', '\r', '\0', '\u2212', '\u0301', '/', ',', '+', '_', '٤', '４', 'a']) {
    t.equal(withoutSeparators(`483${kept}920`), `483${kept}920`, JSON.stringify(kept))
  }
})

t.test('every range of Kyrgyz mobile numbers and every US geographic number is accepted', async (t) => {
  for (const phone of [
    '+996200123456', '+996500123456', '+996555123456', '+996700123456', '+996770123456', '+996990123456',
    '+996312580123'
  ]) {
    t.equal(read(phone), `${phone} kg`)
  }
  for (const phone of ['+13125550100', '+12125551234', '+19075551234', '+18085551234']) {
    t.equal(read(phone), `${phone} us`)
  }
})

t.test('a national number belongs to the named market, with or without its trunk prefix', async (t) => {
  for (const input of ['555123456', '0555123456', '0555 12-34-56', '(0555) 123 456']) {
    t.equal(read(input, { market: 'kg' }), '+996555123456 kg', input)
  }
  for (const input of ['3128059851', '(312) 805-9851', '312.805.9851', '1 312 805 9851']) {
    t.equal(read(input, { market: 'us' }), '+13128059851 us', input)
  }
})

t.test('without a market, digits after one trunk 0 are a national number of the default market', async (t) => {
  t.equal(read('0555 123 456'), '+996555123456 kg')
  t.equal(read('000555123456'), 'unknown_country', 'two zeros count as +')
  t.equal(read('555123456'), 'no_country_code')
  t.equal(read('(312) 805-9851'), 'no_country_code')
})

t.test('a named market never overrides a country code', async (t) => {
  for (const input of ['+996 555 123 456', '996 555 123 456', '00996555123456']) {
    t.equal(read(input, { market: 'us' }), '+996555123456 kg', input)
  }
  for (const input of ['+1 312 805 9851', '13128059851', '0013128059851']) {
    t.equal(read(input, { market: 'kg' }), '+13128059851 us', input)
  }
  t.equal(read('+555123456', { market: 'kg' }), 'unknown_country', 'digits after + are not a national number')
  t.equal(read('00555123456', { market: 'kg' }), 'unknown_country')
  t.equal(read('4951234567', { market: 'us' }), 'no_market',
    'the digits are valid with a country code, so they are not a national number')
  t.equal(read('011 996 555 123456', { market: 'us' }), 'no_country_code',
    'a national number has no international prefix')
})

t.test('letters, non-ASCII digits, extensions, control characters and a + inside are malformed', async (t) => {
  const inputs = [
    '', ' ', '+', '()', 'phone', '+996 555 123 45a', 'tel:+996555123456', '1-312-FLOWERS',
    '+996555123456 ext 7', '+996555123456x7', '+996555123456#7', '+996555123456;ext=7', '+996555123456,7',
    '+996/555123456', '++996555123456', '+996555+123456', '996555123456+', '00+996555123456',
    '+996555123456\0', '\0+996555123456', '+996555\u0000123456', '+996555123456\n', '+996555123456\r',
    '+９９６５５５１２３４５６', '＋996555123456', '+٩٩٦٥٥٥١٢٣٤٥٦', '+৯৯৬555123456', '\ud800', '+996−555−123456'
  ]

  t.strictSame(faultsOf(inputs), all(inputs, 'malformed'))
})

t.test('a fault distinguishes country code, length, range and country', async (t) => {
  const lengths = ['+99655512345', '+99655512345678', '+1312805985', '+131280598511', '1312805985']
  t.strictSame(faultsOf(lengths), all(lengths, 'wrong_length'))
  t.equal(read('55512345', { market: 'kg' }), 'wrong_length')
  t.equal(read('12345678901234567890', { market: 'us' }), 'no_country_code')

  const ranges = ['+10005551234', '+9965551234567', '+996601123456', '+996000000001']
  t.strictSame(faultsOf(ranges), all(ranges, 'unknown_range'))
  t.equal(read('601123456', { market: 'kg' }), 'unknown_range')

  const countries = ['+999999999999', '+0555123456', '+210123456789']
  t.strictSame(faultsOf(countries), all(countries, 'unknown_country'))
})

t.test('a number of no market is no_market, also in other countries of the North American plan', async (t) => {
  const inputs = [
    '+79161234567', '+77011234567', '+442071838750', '+8613800138000', '+4915112345678',
    '+14165551234', '+16045551234', '+18765551234', '+18095551234', '+12425021234', '+18683012345', '+17875551234',
    '+16714801234', '+16847331234'
  ]

  t.strictSame(faultsOf(inputs), all(inputs, 'no_market'))
  t.equal(read('416 555 1234', { market: 'us' }), 'no_market', 'also as a national number')
})

t.test('a number of a market that cannot receive messages is no_messages', async (t) => {
  const inputs = {
    'toll-free us': '+18005551234',
    'toll-free us, a later prefix': '+18335551234',
    'premium us': '+19002345678',
    'personal number us': '+15005551234',
    'toll-free kg': '+996800123456',
    'fixed line kg': '+996312123456'
  }

  for (const [kind, phone] of Object.entries(inputs)) t.equal(read(phone), 'no_messages', kind)
  t.equal(read('0312 123 456', { market: 'kg' }), 'no_messages')
  t.equal(read('+80012345678'), 'no_market', 'international toll-free')
})

t.test('a short number is short_number, with or without a country code', async (t) => {
  const inputs = ['911', '112', '102', '+112', '1 1 2', '+1 911', '+996 102', '123456', '0', '00', '00 112']

  t.strictSame(faultsOf(inputs), all(inputs, 'short_number'))
  t.equal(read('911', { market: 'us' }), 'short_number')
})

t.test('an exempt number is accepted without the numbering plan, in every spelling', async (t) => {
  const exempt = (phone: string) => phone === '+996601123456' ? 'kg' as const : undefined

  for (const input of ['+996601123456', '996 601 123 456', '00996601123456', '0601 123 456', '+996 (0) 601 123 456']) {
    t.equal(read(input, { exempt }), '+996601123456 kg', input)
  }
  t.equal(read('601123456', { exempt, market: 'kg' }), '+996601123456 kg')
  t.equal(read('+996601123457', { exempt }), 'unknown_range')
})

t.test('the canonical form of a number is E.164, assigned or not', async (t) => {
  for (const input of ['+1 312 555-0100', '13125550100', '001 312 555 0100']) {
    t.equal(canonicalPhone(input), '+13125550100', input)
  }
  t.equal(canonicalPhone('+996 000 000 001'), '+996000000001')
  t.equal(canonicalPhone('0'), '+0', 'not a number for the library')
  t.equal(canonicalPhone('no number'), undefined)
})
