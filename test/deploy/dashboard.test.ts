import { readFileSync } from 'node:fs'
import t from 'tap'
import { testService } from '../helpers/service.js'

interface Dashboard { panels: Array<{ id: number, title: string, targets: Array<{ expr: string }> }> }

/** The names of the metrics in a query, and the labels by which it groups. */
const metricsOf = (query: string) => query.match(/\b(?:phone_auth|process|nodejs)_\w+/g) ?? []
const labelsOf = (query: string) =>
  [...query.matchAll(/by \(([\w, ]+)\)/g)].flatMap(([, names]) => (names as string).split(', '))

t.test('the dashboard shows only existing metrics and labels, and all metrics of the service', async (t) => {
  const text = readFileSync('deploy/grafana-dashboard.json', 'utf8')
  const { panels } = JSON.parse(text) as Dashboard
  const { app, request, login } = await testService(t, {
    env: {
      METRICS_PORT: '9464', SMS_GUARD_BLOCK_SENDS: '1', SMS_GUARD_MIN_VERIFIED_PERCENT: '100', SMS_GUARD: 'observe'
    }
  })
  await login('+996555990001')
  await request('POST', '/auth/send-verification', { body: { phone: '+996555990002' } })
  await request('POST', '/auth/send-verification', { body: { phone: '+996555990003' } })
  await request('POST', '/auth/send-verification', { body: { phone: '+996555990003' } })
  await request('GET', '/auth/verify-token')

  const exposed = await app.metrics.metrics()
  const names = new Set([...exposed.matchAll(/^(\w+)[{ ]/gm)].map(([, name]) => name))
  const labels = new Set([...exposed.matchAll(/[{,](\w+)="/g)].map(([, name]) => name))
  const queries = panels.flatMap(({ targets }) => targets.map(({ expr }) => expr))
  t.ok(queries.length > 15)
  for (const query of queries) {
    t.ok(metricsOf(query).length > 0, query)
    for (const name of metricsOf(query)) t.ok(names.has(name), name)
    for (const label of labelsOf(query)) t.ok(labels.has(label), label)
  }
  t.equal(new Set(panels.map(({ id }) => id)).size, panels.length)

  const ours = (await app.metrics.getMetricsAsJSON()).map(({ name }) => name)
    .filter((name) => name.startsWith('phone_auth_'))
  const shown = queries.flatMap(metricsOf).map((name) => name.replace(/_(bucket|sum|count)$/, ''))
  t.strictSame(ours.filter((name) => !shown.includes(name)), [])
})
