import { spawnSync } from 'node:child_process'
import t from 'tap'
import { wrongCode } from '../helpers/answers.js'
import { freePort } from '../helpers/free-port.js'
import { smsWebhook, startService, until } from '../helpers/server-process.js'
import { program } from '../helpers/servers.js'
import { client, newPhone, productionEnv, testDatabase, testRedis } from '../helpers/service.js'

t.test('the metrics of a process in production, and of several workers, pass promtool check metrics', async (t) => {
  const promtool = program(['promtool'], 'prometheus')
  const [database, redis, sms] = [await testDatabase(t), await testRedis(t), await smsWebhook(t)]
  for (const WEB_CONCURRENCY of ['1', '2']) {
    const metricsPort = String(await freePort())
    const { url } = await startService(t, { ...productionEnv(database.url, redis.url), SMS_WEBHOOK_URL: sms.url, METRICS_PORT: metricsPort, WEB_CONCURRENCY, SMS_GUARD: 'observe', SMS_GUARD_MARKET_SENDS: '1' })
    const { send, verify, codeOf, login, request } = client(url, sms.sms)
    const phone = newPhone()
    await send(phone)
    await verify(phone, wrongCode(codeOf(phone)))
    const { token } = await login(newPhone('us'))
    await request('GET', '/auth/verify-token', { token })
    let metrics = ''
    // Until the last worker is up there are none.
    await until(async () => {
      const answer = await fetch(`http://127.0.0.1:${metricsPort}/metrics`)
      metrics = await answer.text()
      return answer.ok
    })
    t.match(metrics, /^phone_auth_codes_verified_total\{market="us"\} 1$/m)
    t.match(metrics, /^phone_auth_refused_total\{reason="invalid_code",market="kg"\} 1$/m)
    const { status, stdout, stderr } = spawnSync(promtool, ['check', 'metrics'], { input: metrics, encoding: 'utf8' })
    t.strictSame({ status, stdout, stderr }, { status: 0, stdout: '', stderr: '' })
  }
})
