import { once } from 'node:events'
import { createServer, type AddressInfo } from 'node:net'
import t from 'tap'
import { freePort } from '../../helpers/free-port.js'
import { startApplication, startGateway } from '../../helpers/gateways.js'
import { smsWebhook, startService, until } from '../../helpers/server-process.js'
import { client, newPhone, productionEnv, testDatabase, testRedis } from '../../helpers/service.js'

/* npm run test:gateways: a rolling release behind gateways with their files from deploy/. */
const clients = 8
const rounds = 3

// In parallel: the tests mostly wait for processes to drain and to start.
t.jobs = 2

for (const name of ['nginx', 'caddy'] as const) {
  const title = `no request fails behind ${name} while two replicas restart in turn three times under load`
  t.test(title, { buffered: true }, async (t) => {
    const [database, redis, sms, application] = [
      await testDatabase(t), await testRedis(t), await smsWebhook(t), await startApplication(t)
    ]
    // Caddy probes each second, and a probe is slow on a busy machine: the drain must last longer than both.
    const env = {
      ...productionEnv(database.url, redis.url), LOG_LEVEL: 'info', SMS_WEBHOOK_URL: sms.url, DRAIN_SECONDS: '4'
    }
    const ports = [await freePort(), await freePort()] as const
    const start = async (port: number) => {
      const replica = await startService(t, { ...env, PORT: String(port) })
      await until(async () => (await fetch(`${replica.url}/health/ready`, { headers: { connection: 'close' } })).ok)
      return replica
    }
    const replicas = await Promise.all(ports.map(start))
    const url = await startGateway(t, name, [`127.0.0.1:${ports[0]}`, `127.0.0.1:${ports[1]}`], application.address)
    const { request, login } = client(url, sms.sms)
    const { token } = await login(newPhone())

    const failures: string[] = []
    let finished = 0
    const isOver = new AbortController()
    t.teardown(() => isOver.abort())
    const steps: Array<[what: string, () => Promise<{ status: number }>]> = [
      ['an order is read', () => request('GET', '/orders/7', { token })],
      ['an order is placed', () => request('POST', '/orders', { token, body: {} })],
      ['the account is read', () => request('GET', '/api/v1/users/me', { token })],
      ['the account is changed', () => request('PATCH', '/api/v1/users/me', { token, body: { full_name: 'A' } })],
      ['a user signs in', () => login(newPhone()).then(() => ({ status: 200 }))]
    ]
    const load = async () => {
      while (!isOver.signal.aborted) {
        for (const [what, step] of steps) {
          const outcome = await step()
            .then(({ status }) => status, ({ message, cause }: Error) => `${message} ${String(cause)}`)
          finished++
          if (outcome !== 200) failures.push(`${what}: ${outcome}`)
        }
      }
    }
    const loads = Promise.all(Array.from({ length: clients }, load))
    for (let round = 0; round < rounds; round++) {
      for (const i of [0, 1] as const) {
        const before = finished
        t.equal(await replicas[i]?.stop(), 0)
        t.ok(finished > before, 'the other replica serves meanwhile')
        const replica = replicas[i] = await start(ports[i])
        // Caddy probes each second, and must use this replica again before the other one stops.
        await until(() => replica.stdout.includes('"event":"login"'))
      }
    }
    isOver.abort()
    await loads
    t.comment(`${finished} steps`)
    t.strictSame(failures, [])
  })
}

t.test('nginx sends a write that one replica resets to the other one', async (t) => {
  const [database, redis, sms, application] = [
    await testDatabase(t), await testRedis(t), await smsWebhook(t), await startApplication(t)
  ]
  const replica = await startService(t, { ...productionEnv(database.url, redis.url), SMS_WEBHOOK_URL: sms.url })
  let resets = 0
  const resetting = createServer((socket) => {
    socket.on('error', () => {}).once('data', () => {
      resets++
      socket.resetAndDestroy()
    })
  }).listen(0, '127.0.0.1')
  await once(resetting, 'listening')
  t.teardown(() => resetting.close())
  const hosts: [string, string] = [
    new URL(replica.url).host, `127.0.0.1:${(resetting.address() as AddressInfo).port}`
  ]
  const url = await startGateway(t, 'nginx', hosts, application.address)
  const { request, login } = client(url, sms.sms)
  const { token } = await login(newPhone())
  const before = resets
  for (const name of ['A', 'B', 'C', 'D']) {
    t.match(
      await request('PATCH', '/api/v1/users/me', { token, body: { full_name: name } }),
      { status: 200, body: { full_name: name } }
    )
  }
  t.ok(resets > before)
})
