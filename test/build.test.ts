import { execFileSync } from 'node:child_process'
import t from 'tap'
import { client, newPhone, productionEnv, testDatabase, testRedis } from './helpers/service.js'
import { listening, smsWebhook, startProcess, until } from './helpers/server-process.js'

t.test('what npm run build makes of the server signs in, in two workers, and shows its pages', async (t) => {
  execFileSync(process.execPath, ['bundle.js'], { stdio: ['ignore', 'ignore', 'inherit'] })
  const database = await testDatabase(t)
  const { url: redisUrl } = await testRedis(t)
  const { url: smsUrl, sms } = await smsWebhook(t)
  const server = startProcess(t, '../../dist/server', {
    env: {
      ...productionEnv(database.url, redisUrl),
      SMS_WEBHOOK_URL: smsUrl,
      WEB_CONCURRENCY: '2',
      DOCS: 'true',
      DRAIN_SECONDS: '0',
      // It is the sources that are to be covered.
      NODE_OPTIONS: undefined,
      NODE_V8_COVERAGE: undefined
    }
  })
  const url = await listening(server)
  await until(() => fetch(`${url}/health/ready`).then(({ ok }) => ok))
  const { token } = await client(url, sms).login(newPhone())
  t.equal((await fetch(`${url}/api/v1/users/me`, { headers: { authorization: `Bearer ${token}` } })).status, 200)
  for (const path of ['/openapi.json', '/docs', '/docs/static/swagger-ui.css']) t.equal((await fetch(url + path)).status, 200, path)
  t.equal(await server.stop(), 0)
})
