import t from 'tap'
import { extraMarket, readExtraPrefixes } from '../../src/phone/extra-prefixes.js'

t.test('an extra range accepts numbers with its prefix and the length of its market', async (t) => {
  const problems: string[] = []
  const ranges = readExtraPrefixes(['kg:+996601', 'us:+1565'], problems)

  t.strictSame(problems, [])
  t.equal(extraMarket(ranges, '+996601123456'), 'kg')
  t.equal(extraMarket(ranges, '+15651234567'), 'us')
  for (const phone of ['+99660112345', '+9966011234567', '+1565123456', '+15641234567', '+996602123456', '']) {
    t.equal(extraMarket(ranges, phone), undefined, phone)
  }
  t.equal(extraMarket([], '+996601123456'), undefined)
})

t.test('an extra range must be a part of a market', async (t) => {
  const entries = [
    'kg:+996601', 'kg', '+996601', 'kg:996601', 'zz:+996601', 'kg:+1565', 'kg:+996', 'us:+1', 'kg:+9966011234567',
    'kg:+99660x', 'constructor:+1'
  ]
  const problems: string[] = []

  t.strictSame(readExtraPrefixes(entries, problems), [{ market: 'kg', prefix: '+996601' }])
  t.strictSame(problems, entries.slice(1).map((_, index) =>
    `PHONE_EXTRA_PREFIXES entry ${index + 2} must be a market and the beginning of its numbers, like kg:+996601`))
})
