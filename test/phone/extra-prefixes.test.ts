import t from 'tap'
import { extraMarket, type ExtraPrefix } from '../../src/phone/extra-prefixes.js'

t.test('an extra range takes the numbers with its prefix and the length of its market', async (t) => {
  const ranges: ExtraPrefix[] = [{ market: 'kg', prefix: '+996601' }, { market: 'us', prefix: '+1565' }]
  t.equal(extraMarket(ranges, '+996601123456'), 'kg')
  t.equal(extraMarket(ranges, '+15651234567'), 'us')
  for (const phone of ['+99660112345', '+9966011234567', '+1565123456', '+15641234567', '+996602123456', '']) {
    t.equal(extraMarket(ranges, phone), undefined, phone)
  }
  t.equal(extraMarket([], '+996601123456'), undefined)
})
