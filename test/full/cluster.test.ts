import { once } from 'node:events'
import { Agent, get, type IncomingMessage } from 'node:http'
import t, { type Test } from 'tap'
import {
  isRunning, listening, logLines, smsWebhook, startProcess, until, type ServiceProcess
} from '../helpers/server-process.js'
import { client, newPhone, productionEnv, testDatabase, testRedis } from '../helpers/service.js'

/** Starts two workers in production, in a process group of their own. */
async function startWorkers (t: Test, env: Record<string, string> = {}) {
  const [database, redis, webhook] = [await testDatabase(t), await testRedis(t), await smsWebhook(t)]
  const server = startProcess(t, 'server', {
    isGroup: true,
    env: {
      ...productionEnv(database.url, redis.url), SMS_WEBHOOK_URL: webhook.url, WEB_CONCURRENCY: '2', ...env
    }
  })
  return { server, sms: webhook.sms }
}

/** The status of a response over a new connection: the primary distributes connections to its workers in turn. */
async function status (url: string) {
  const request = get(url, { agent: new Agent() })
  const [response] = await once(request, 'response') as [IncomingMessage]
  response.resume()
  return response.statusCode
}

const pids = ({ stdout }: ServiceProcess, event: string) =>
  [...new Set(
    logLines(stdout).filter((line) => line.event === event || line.msg === event).map(({ pid }) => pid as number)
  )]
const workersThatResponded = (server: ServiceProcess) => pids(server, 'answer')

/** Sends requests until at least `count` workers have responded. Returns their process ids. */
async function respondingWorkers (server: ServiceProcess, url: string, count: number) {
  await until(async () => await status(`${url}/health/live`) === 200 && workersThatResponded(server).length >= count)
  return workersThatResponded(server)
}

t.test('all workers share one port and their codes, and SIGTERM ends them all with 0', async (t) => {
  const { server, sms } = await startWorkers(t)
  const url = await listening(server)
  const workers = await respondingWorkers(server, url, 2)
  t.notOk(workers.includes(server.pid))
  const { login, request } = client(url, sms)
  for (let round = 0; round < 4; round++) {
    const { token } = await login(newPhone())
    t.equal((await request('GET', '/api/v1/users/me', { token, headers: { connection: 'close' } })).status, 200)
  }
  server.kill('SIGTERM')
  const { code, stderr } = await server.closed
  t.strictSame({ code, stderr }, { code: 0, stderr: '' })
  for (const pid of workers) t.equal(isRunning(pid), false)
})

t.test('a worker that dies is logged and replaced', async (t) => {
  const { server } = await startWorkers(t)
  const url = await listening(server)
  const [first] = await respondingWorkers(server, url, 2)
  process.kill(first as number, 'SIGKILL')
  await server.shows(/"worker_died"/)
  t.equal((await respondingWorkers(server, url, 3)).length, 3)
  t.match(
    logLines(server.stdout).filter(({ event }) => event === 'worker_died'),
    [{ level: 50, worker: first, code: null, signal: 'SIGKILL' }]
  )
  server.kill('SIGTERM')
  t.equal((await server.closed).code, 0)
})

t.test('a signal to the whole group drains once, because workers take signals only from the primary', async (t) => {
  const { server } = await startWorkers(t, { DRAIN_SECONDS: '600' })
  const url = await listening(server)
  await respondingWorkers(server, url, 2)
  server.kill('SIGTERM')
  await until(async () => await status(`${url}/health/ready`) === 503)
  for (let round = 0; round < 20; round++) t.equal(await status(`${url}/health/live`), 200)
  t.equal((await server.abortDrain()).code, 0)
})

t.test('the process ends with 1 if a worker is killed during the drain', async (t) => {
  const { server } = await startWorkers(t, { DRAIN_SECONDS: '600' })
  const url = await listening(server)
  const [first] = await respondingWorkers(server, url, 2)
  process.kill(server.pid, 'SIGTERM')
  await until(async () => await status(`${url}/health/ready`) === 503)
  process.kill(first as number, 'SIGKILL')
  await until(() => !isRunning(first as number))
  t.equal((await server.abortDrain()).code, 1)
  t.notMatch(server.stdout, /"worker_died"/)
})

t.test('the workers end with their primary', async (t) => {
  const { server } = await startWorkers(t)
  const workers = await respondingWorkers(server, await listening(server), 2)
  process.kill(server.pid, 'SIGKILL')
  await until(() => workers.every((pid) => !isRunning(pid)))
  t.equal((await server.closed).signal, 'SIGKILL')
})
