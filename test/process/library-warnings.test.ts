import t from 'tap'
import { listening, logLines, startProcess } from '../helpers/server-process.js'
import { productionEnv, testDatabase, testRedis } from '../helpers/service.js'

t.test('warnings of pg and of Node are lines of the log', async (t) => {
  const [{ url }, { url: redisUrl }] = [await testDatabase(t), await testRedis(t)]
  const warning = "data:text/javascript,process.on('SIGWINCH',()=>{process.emitWarning('a%20late%20one')})"
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
  for (const [who, message] of [['pg', /SSL modes/], ['Node', /a late one/]] as const) {
    t.ok(warnings.some(({ level, msg }) => level === 40 && message.test(String(msg))), who)
  }
  t.equal(stderr, '')
})
