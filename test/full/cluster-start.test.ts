import { randomBytes } from 'node:crypto'
import { once } from 'node:events'
import { readFileSync, writeFileSync } from 'node:fs'
import { createServer, type AddressInfo } from 'node:net'
import { join } from 'node:path'
import t, { type Test } from 'tap'
import { startProcess, until } from '../helpers/server-process.js'
import { temporaryFolder } from '../helpers/servers.js'
import { productionEnv, testDatabase, testRedis } from '../helpers/service.js'

/** Starts two workers in production, in a process group of their own. */
async function startWorkers (t: Test, env: Record<string, string> = {}) {
  const [database, redis] = [await testDatabase(t), await testRedis(t)]
  return startProcess(t, 'server', {
    isGroup: true, env: { ...productionEnv(database.url, redis.url), WEB_CONCURRENCY: '2', ...env }
  })
}

t.test('SIGTERM during the start ends the process with 0, and no further workers start', async (t) => {
  for (const [name, group] of [['the primary', 1], ['its whole group', -1]] as const) {
    const server = await startWorkers(t)
    await until(() => readFileSync(`/proc/${server.pid}/task/${server.pid}/children`, 'utf8') !== '')
    process.kill(server.pid * group, 'SIGTERM')
    const { code, stdout } = await server.closed
    t.equal(code, 0, name)
    t.notMatch(stdout, /"worker_died"/)
    t.ok((stdout.match(/Server listening/g) ?? []).length <= 1)
  }
})

t.test('several workers start with JWT_SECRET_FILE', async (t) => {
  const folder = await temporaryFolder()
  t.teardown(folder.remove)
  const path = join(folder.path, 'secret')
  writeFileSync(path, randomBytes(32).toString('base64'))
  const server = await startWorkers(t, { JWT_SECRET: '', JWT_SECRET_FILE: path })

  await server.shows(/Server listening[^]*Server listening/)
})

t.test('an error at start is printed once and ends the process with 1', async (t) => {
  const taken = createServer().listen(0, '127.0.0.1')
  t.teardown(() => taken.close())
  await once(taken, 'listening')
  const faults: Array<[env: Record<string, string>, printed: RegExp]> = [
    [{ PORT: String((taken.address() as AddressInfo).port) }, /^phone-auth: .*PORT.*\n$/],
    [{ REDIS_URL: `${process.env.TEST_REDIS_URL as string}/5000` }, /^phone-auth: REDIS_URL names a database .*\n$/],
    [{ SMS_APP_NAME: 'x'.repeat(60) }, /^phone-auth: SMS_APP_NAME .* ru .*\nphone-auth: SMS_APP_NAME .* ky .*\n$/]
  ]
  for (const [env, printed] of faults) {
    const server = await startWorkers(t, env)
    const { code, stderr } = await server.closed
    t.equal(code, 1)
    t.match(stderr, printed)
  }
})
