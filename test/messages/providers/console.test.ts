import t from 'tap'
import { smsSender } from '../../../src/messages/index.js'
import { loadConfig } from '../../../src/config/index.js'

t.test('development shows a message instead of sending it', async (t) => {
  const send = smsSender(loadConfig({ NODE_ENV: 'development', DATABASE_URL: 'postgres://h/d' }).provider)
  const written = t.capture(process.stdout, 'write')
  await send({
    id: '1',
    to: '+996555123456',
    text: 'Marque: ваш код 012345\n\n@app.example.com #012345',
    market: 'kg',
    language: 'ru'
  })
  t.strictSame(written().map(({ args }) => args.join('')), [
    '\n  SMS to +996555123456\n  | Marque: ваш код 012345\n  | \n  | @app.example.com #012345\n\n'
  ])
})
