import t from 'tap'
import { listening, logLines, startProcess } from '../helpers/server-process.js'
import { productionEnv, testDatabase, testRedis } from '../helpers/service.js'

t.test('warnings of pg and of Node are lines of the log', async (t) => {
  const [{ url }, { url: redisUrl }] = [await testDatabase(t), await testRedis(t)]
  // Emits one warning as soon as the service listens to warnings, before it has a log, and one on a signal.
  const warning = 'data:text/javascript,' + encodeURIComponent(`
    const warn = (text) => process.nextTick(() => process.emitWarning(text))
    process.on('newListener', (event) => { if (event === 'warning') warn('an early one') })
    process.on('SIGWINCH', () => warn('a late one'))`)
  const server = startProcess(t, 'server', {
    env: {
      ...productionEnv(`${url}?sslmode=prefer`, redisUrl),
      NODE_OPTIONS: `${process.env.NODE_OPTIONS ?? ''} --import=${warning}`
    }
  })
  await listening(server)
  server.kill('SIGWINCH')
  await server.shows(/a late one/)
  server.kill('SIGTERM')
  const { stdout, stderr } = await server.closed

  const warnings = logLines(stdout).filter(({ event }) => event === 'library_warning')
  for (const [who, message] of [['pg', /SSL modes/], ['Node', /an early one/], ['Node', /a late one/]] as const) {
    t.ok(warnings.some(({ level, msg }) => level === 40 && message.test(String(msg))), who)
  }
  t.equal(stderr, '')
})
