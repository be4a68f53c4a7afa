import { execFileSync } from 'node:child_process'
import t, { type Test } from 'tap'
import { holdLock } from '../helpers/locks.js'
import { client, newPhone, productionEnv, testDatabase, testRedis } from '../helpers/service.js'
import { listening, smsWebhook, startProcess, until } from '../helpers/server-process.js'

/** Coverage counts the sources, not the bundle. */
const notCovered = { NODE_OPTIONS: undefined, NODE_V8_COVERAGE: undefined }

t.test('the bundle of npm run build runs with two workers, signs users in and serves its pages', async (t) => {
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
      ...notCovered
    }
  })
  const url = await listening(server)
  await until(() => fetch(`${url}/health/ready`).then(({ ok }) => ok))
  const { token } = await client(url, sms).login(newPhone())
  t.equal((await fetch(`${url}/api/v1/users/me`, { headers: { authorization: `Bearer ${token}` } })).status, 200)
  for (const path of ['/openapi.json', '/docs', '/docs/static/swagger-ui.css']) {
    t.equal((await fetch(url + path)).status, 200, path)
  }
  t.equal(await server.stop(), 0)
})

/** Starts the service by npm in a process group of its own, with a request in flight that waits for a lock. */
async function startByNpm (t: Test, env: Record<string, string>) {
  const [database, redis, webhook] = [await testDatabase(t), await testRedis(t), await smsWebhook(t)]
  const server = startProcess(t, 'npm start', {
    isGroup: true,
    env: {
      ...productionEnv(database.url, redis.url),
      SMS_WEBHOOK_URL: webhook.url,
      DRAIN_SECONDS: '600',
      npm_config_update_notifier: 'false',
      ...notCovered,
      ...env
    }
  })
  const url = await listening(server)
  const { login, request } = client(url, webhook.sms)
  const { token } = await login(newPhone())
  const lock = await holdLock(t, database.url, 'SELECT FROM users FOR UPDATE')
  const inFlight = request('PATCH', '/api/v1/users/me', { token, body: { full_name: 'In Flight' } })
  await lock.isAwaited()
  return { server, url, lock, inFlight }
}

for (const [workers, target, sign] of [
  ['1', 'npm alone', 1], ['1', 'its group', -1], ['2', 'npm alone', 1], ['2', 'its group', -1]
] as const) {
  t.test(`npm start with ${workers} worker(s): SIGTERM to ${target} drains once and loses no request`, async (t) => {
    const { server, url, lock, inFlight } = await startByNpm(t, { WEB_CONCURRENCY: workers })
    const status = async (path: string) => (await fetch(url + path, { headers: { connection: 'close' } })).status

    process.kill(sign * server.pid, 'SIGTERM')
    await until(async () => await status('/health/ready') === 503)
    await lock.release()
    t.match(await inFlight, { status: 200, body: { full_name: 'In Flight' } })
    for (let round = 0; round < 20; round++) t.equal(await status('/health/live'), 200)
    t.match(await server.abortDrain(), { code: 0, signal: null })
  })
}

t.test('under npm start SIGINT to the group finishes the request in flight and skips the drain', async (t) => {
  const { server, url, lock, inFlight } = await startByNpm(t, { WEB_CONCURRENCY: '2' })

  server.kill('SIGINT')
  await until(() => fetch(`${url}/health/live`).then(() => false, () => true))
  await lock.release()
  t.match(await inFlight, { status: 200, body: { full_name: 'In Flight' } })
  t.match(await server.closed, { code: 0, signal: null })
})
