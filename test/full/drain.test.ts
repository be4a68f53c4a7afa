import { once } from 'node:events'
import { Agent, request as httpRequest, type IncomingMessage } from 'node:http'
import { json } from 'node:stream/consumers'
import t, { type Test } from 'tap'
import { holdLock } from '../helpers/locks.js'
import { listening, logLines, smsWebhook, startProcess, until, type ServiceProcess } from '../helpers/server-process.js'
import { client, newPhone, productionEnv, testDatabase, testRedis, testService } from '../helpers/service.js'

/** Starts a server in production, signs a user in, and returns clients for this user. */
async function startDrained (t: Test, drainSeconds: number) {
  const [database, redis, webhook] = [await testDatabase(t), await testRedis(t), await smsWebhook(t)]
  const server = startProcess(t, 'server', {
    env: {
      ...productionEnv(database.url, redis.url), SMS_WEBHOOK_URL: webhook.url, DRAIN_SECONDS: String(drainSeconds)
    }
  })
  const url = await listening(server)
  const { token } = await client(url, webhook.sms).login(newPhone())
  /** A client that keeps its connections or, without `keepAlive`, opens a new one for each request. */
  const connections = (keepAlive: boolean) => {
    const agent = new Agent({ keepAlive })
    t.teardown(() => agent.destroy())
    return async (path = '/auth/verify-token', method = 'GET') => {
      const request = httpRequest(url + path, { agent, method, headers: { authorization: `Bearer ${token}` } }).end()
      const [response] = await once(request, 'response') as [IncomingMessage]
      const { statusCode: status, headers: { connection } } = response
      return { status, connection, isReused: request.reusedSocket, body: await json(response) }
    }
  }
  return { server, url, database, token, connections }
}

type Get = ReturnType<Awaited<ReturnType<typeof startDrained>>['connections']>
const isRefused = (get: Get) =>
  get('/health/live').then(() => false, ({ code }: NodeJS.ErrnoException) => code === 'ECONNREFUSED')
const isDraining = (get: Get) => get('/health/ready').then(({ status }) => status === 503)

/** Asserts that a process ends with 0 and logs no error. */
async function endsWell (t: Test, closed: ServiceProcess['closed']) {
  const { code, stderr, stdout } = await closed
  t.strictSame({ code, stderr }, { code: 0, stderr: '' })
  t.strictSame(logLines(stdout).filter(({ level }) => level as number >= 50), [])
}

t.test('a draining server serves requests, is not ready and closes connections until a second SIGTERM', async (t) => {
  const { server, connections } = await startDrained(t, 600)
  const [kept, fresh] = [connections(true), connections(false)]
  t.equal((await kept()).connection, 'keep-alive')

  server.kill('SIGTERM')
  server.kill('SIGTERM')
  await until(() => isDraining(fresh))
  const { isReused, ...first } = await kept()
  t.equal(isReused, true)
  t.match(first, { status: 200, connection: 'close', body: { valid: true } })
  t.match(await kept(), { status: 200, connection: 'close', isReused: false })
  t.match(
    await fresh('/health/ready'),
    { status: 503, connection: 'close', body: { status: 'unavailable', checks: { database: 'up', redis: 'up' } } }
  )
  for (const [path, method, status] of [
    ['/health/live', 'GET', 200], ['/nowhere', 'GET', 404], ['/%zz', 'GET', 400], ['/auth/markets', 'PUT', 405]
  ] as const) {
    t.match(await kept(path, method), { status, connection: 'close' }, path)
  }

  await endsWell(t, server.abortDrain())
})

t.test('a request that arrived before the signal gets its response, and its connection closes', async (t) => {
  const { server, database, connections } = await startDrained(t, 0)
  const [kept, fresh] = [connections(true), connections(false)]
  const lock = await holdLock(t, database.url, 'LOCK TABLE users')
  const pending = kept()
  await lock.isAwaited()
  server.kill('SIGTERM')
  await until(() => isRefused(fresh))
  await lock.release()
  t.match(await pending, { status: 200, connection: 'close' })
  await endsWell(t, server.closed)
})

t.test('a request on a connection that was idle when listening stopped gets its response', async (t) => {
  const { server, connections } = await startDrained(t, 0)
  const [kept, fresh] = [connections(true), connections(false)]
  await kept()
  server.kill('SIGTERM')
  await until(() => isRefused(fresh))
  t.match(await kept(), { status: 200, connection: 'close', isReused: true })
  await endsWell(t, server.closed)
})

t.test('a drain under load loses no request, neither on kept connections nor on new ones', async (t) => {
  const { server, connections } = await startDrained(t, 600)
  const statuses: Array<number | undefined> = []
  const moved = new AbortController()
  const load = async (get: Get) => {
    while (!moved.signal.aborted) statuses.push((await get()).status)
  }
  const fresh = connections(false)
  const clients = Promise.all([...Array(8)].map((_, index) => load(connections(index < 6))))
  await until(() => statuses.length > 100)
  server.kill('SIGTERM')
  await until(() => isDraining(fresh))
  const before = statuses.length
  await until(() => statuses.length > before + 200)
  moved.abort()
  await clients
  t.strictSame([...new Set(statuses)], [200])
  await endsWell(t, server.abortDrain())
})

t.test('a request that arrives while the drain waits for a quiet turn gets its response', async (t) => {
  const { app } = await testService(t)
  // No turn of the event loop is quiet until the wait is over.
  const spin = () => {
    for (const end = performance.now() + 1; performance.now() < end;);
    if (app.server.listening) setImmediate(spin)
  }
  spin()
  const drained = app.drain(0, new AbortController().signal)
  const responses: Array<Promise<{ statusCode: number }>> = []
  while (app.server.listening) {
    responses.push(app.inject('/health/live'))
    await new Promise(setImmediate)
  }
  t.ok((await Promise.all(responses)).every(({ statusCode }) => statusCode === 200))
  await drained
})

t.test('SIGINT ends the process at once, whatever DRAIN_SECONDS is', async (t) => {
  const { server } = await startDrained(t, 600)
  server.kill('SIGINT')
  await endsWell(t, server.closed)
})
