import { spawnSync } from 'node:child_process'
import { readFileSync } from 'node:fs'
import { join, resolve } from 'node:path'
import t from 'tap'
import { parse } from 'yaml'
import { wrongCode } from '../../helpers/responses.js'
import { freePort } from '../../helpers/free-port.js'
import { smsWebhook, startService, until } from '../../helpers/server-process.js'
import { program } from '../../helpers/servers.js'
import { client, newPhone, productionEnv, testDatabase, testRedis } from '../../helpers/service.js'

t.test('the metrics of one process and of several workers pass promtool check metrics', async (t) => {
  const promtool = program(['promtool'], 'prometheus')
  const [database, redis, sms] = [await testDatabase(t), await testRedis(t), await smsWebhook(t)]
  for (const WEB_CONCURRENCY of ['1', '2']) {
    const metricsPort = String(await freePort())
    const { url } = await startService(t, {
      ...productionEnv(database.url, redis.url),
      SMS_WEBHOOK_URL: sms.url,
      METRICS_PORT: metricsPort,
      WEB_CONCURRENCY,
      SMS_GUARD: 'observe',
      SMS_GUARD_MARKET_SENDS: '1'
    })
    const { send, verify, codeOf, login, request } = client(url, sms.sms)
    const phone = newPhone()
    await send(phone)
    await verify(phone, wrongCode(codeOf(phone)))
    const { token } = await login(newPhone('us'))
    await request('GET', '/auth/verify-token', { token })
    let metrics = ''
    // Metrics are unavailable until the last worker has started.
    await until(async () => {
      const response = await fetch(`http://127.0.0.1:${metricsPort}/metrics`)
      metrics = await response.text()
      return response.ok
    })
    t.match(metrics, /^phone_auth_codes_verified_total\{market="us"\} 1$/m)
    t.match(metrics, /^phone_auth_refused_total\{reason="invalid_code",market="kg"\} 1$/m)
    const { status, stdout, stderr } = spawnSync(promtool, ['check', 'metrics'], { input: metrics, encoding: 'utf8' })
    t.strictSame({ status, stdout, stderr }, { status: 0, stdout: '', stderr: '' })
  }
})

/** The values of series, one every 30 seconds, and the expected alert. */
interface AlertCase {
  alert: string
  series: Record<string, string>
  silentAt: string
  firesAt: string
  labels: Record<string, string>
}

const cases: AlertCase[] = [
  {
    alert: 'PhoneAuthInternalErrors',
    series: { 'phone_auth_internal_errors_total{instance="a"}': '0x10 1x20' },
    silentAt: '5m',
    firesAt: '6m',
    labels: { instance: 'a', severity: 'ticket' }
  },
  {
    alert: 'PhoneAuthRedisUnavailable',
    series: {
      'phone_auth_dependency_up{instance="a",dependency="redis"}': '1x4 0x20',
      'phone_auth_dependency_up{instance="a",dependency="postgresql"}': '1x24'
    },
    silentAt: '2m',
    firesAt: '4m',
    labels: { instance: 'a', dependency: 'redis', severity: 'page' }
  },
  {
    alert: 'PhoneAuthMessagesFail',
    series: {
      'phone_auth_refused_total{instance="a",reason="sms_failed",market="kg"}': '0x20 0+2x40',
      'phone_auth_codes_sent_total{instance="a",market="kg"}': '0+4x60'
    },
    silentAt: '10m',
    firesAt: '25m',
    labels: { market: 'kg', severity: 'page' }
  },
  {
    alert: 'PhoneAuthPumping',
    series: { 'phone_auth_sms_guard_total{instance="a",scope="block",market="kg",mode="enforce"}': '0x10 1x20' },
    silentAt: '5m',
    firesAt: '6m',
    labels: { scope: 'block', market: 'kg', mode: 'enforce', severity: 'ticket' }
  },
  {
    alert: 'PhoneAuthDown',
    series: { 'up{instance="a",job="phone-auth"}': '1x10 0x20' },
    silentAt: '5m',
    firesAt: '7m',
    labels: { instance: 'a', job: 'phone-auth', severity: 'page' }
  }
]

t.test('the alerting rules pass promtool, are silent on a healthy service and fire at the first event', async (t) => {
  const promtool = program(['promtool'], 'prometheus')
  const file = resolve('deploy/alerts.yaml')
  const { groups: [{ rules }] } = parse(readFileSync(file, 'utf8')) as {
    groups: [{ rules: Array<{ alert: string, annotations: Record<string, string> }> }]
  }
  const expected = ({ alert, labels }: AlertCase) => {
    const fill = (text: string) =>
      text.replace(/\{\{ \$labels\.(\w+) \}\}/g, (_, name: string) => labels[name] as string)
    const { annotations = {} } = rules.find((rule) => rule.alert === alert) ?? {}
    return [{
      exp_labels: labels,
      exp_annotations: Object.fromEntries(Object.entries(annotations).map(([name, text]) => [name, fill(text)]))
    }]
  }
  const tests = cases.map((one) => ({
    interval: '30s',
    input_series: Object.entries(one.series).map(([series, values]) => ({ series, values })),
    alert_rule_test: [
      { eval_time: one.silentAt, alertname: one.alert, exp_alerts: [] },
      { eval_time: one.firesAt, alertname: one.alert, exp_alerts: expected(one) }
    ]
  }))
  const suite = JSON.stringify({ rule_files: [file], evaluation_interval: '30s', tests })
  const folder = t.testdir({ 'alerts-test.yaml': suite })

  for (const args of [['check', 'rules', file], ['test', 'rules', join(folder, 'alerts-test.yaml')]]) {
    const { status, stdout, stderr } = spawnSync(promtool, args, { encoding: 'utf8' })
    t.equal(status, 0, `${args[0]}: ${stdout}${stderr}`)
  }
})
