import t from 'tap'
import { readTraceparent } from '../../src/http/traceparent.js'

const valid = '00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01'

t.test('a traceparent of W3C Trace Context is returned unchanged', async (t) => {
  for (const header of [valid, valid.replace(/^00/, 'cc')]) t.equal(readTraceparent(header), header)
})

t.test('a malformed traceparent is undefined', async (t) => {
  for (const header of [
    undefined, '', 1, [valid], valid.toUpperCase(), ` ${valid}`, `${valid}\n`, `${valid}-extra`, `${valid}, ${valid}`,
    valid.replace(/^00/, 'ff'), `00-${'0'.repeat(32)}-00f067aa0ba902b7-01`,
    `00-4bf92f3577b34da6a3ce929d0e0e4736-${'0'.repeat(16)}-01`, valid.slice(3), valid.replaceAll('-', '')
  ]) t.equal(readTraceparent(header), undefined, JSON.stringify(header))
})
