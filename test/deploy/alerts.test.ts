import { readdirSync, readFileSync } from 'node:fs'
import { join } from 'node:path'
import t from 'tap'
import { parse } from 'yaml'
import { testService } from '../helpers/service.js'

interface Rule {
  alert: string, expr: string, labels: { severity: string }, annotations: { summary: string, runbook_url: string }
}

const { groups: [group] } = parse(readFileSync('deploy/alerts.yaml', 'utf8')) as { groups: [{ rules: Rule[] }] }
const { rules } = group
const runbook = readFileSync('docs/runbook.md', 'utf8')
const metricsOf = (text: string) => text.match(/\b(?:phone_auth|nodejs|process)_\w+/g) ?? []
const eventsOf = (text: string) => [...text.matchAll(/"event":"(\w+)"/g)].map(([, event]) => event as string)

/** The sections of the runbook by their headings. */
const sections = new Map(
  runbook.split(/^### /m).slice(1).map((section) => [section.slice(0, section.indexOf('\n')), section])
)

t.test('every metric and label value in an alert exists from the start of a process', async (t) => {
  const service = await testService(t, { env: { METRICS_PORT: '9464' } })
  // The series of a histogram begin with the first response of their route.
  await service.request('GET', '/auth/markets')
  const exposed = await service.app.metrics.metrics()
  const names = new Set([...exposed.matchAll(/^(\w+)[{ ]/gm)].map(([, name]) => name))

  for (const { alert, expr } of rules) {
    const metrics = metricsOf(expr)
    t.ok(metrics.length > 0 || alert === 'PhoneAuthDown', alert)
    for (const name of metrics) t.ok(names.has(name), `${alert}: ${name}`)
    for (const [, label, value] of expr.matchAll(/\b(reason|dependency|scope)="(\w+)"/g)) {
      t.ok(exposed.includes(`${label}="${value}"`), `${alert}: ${label}="${value}"`)
    }
  }
})

t.test('every alert, and nothing else, has a runbook section with a metric, a log line and a command', async (t) => {
  t.strictSame([...sections.keys()], rules.map(({ alert }) => alert))
  for (const { alert, expr, labels, annotations } of rules) {
    const section = sections.get(alert) as string
    t.equal(annotations.runbook_url, `docs/runbook.md#${alert.toLowerCase()}`)
    t.ok(['page', 'ticket'].includes(labels.severity), alert)
    const hasMetric = metricsOf(expr).some((name) => section.includes(name.replace(/_(?:count|bucket)$/, '')))
    t.ok(hasMetric || section.includes('`up`'), `${alert}: a metric`)
    t.match(section, /^ {4}\S/m, `${alert}: a command`)
    t.match(section, /\blog\b/i, `${alert}: a log line`)
  }
})

t.test('every log event that the runbook names is in the source', async (t) => {
  const source = readdirSync('src', { recursive: true, encoding: 'utf8' }).filter((file) => file.endsWith('.ts'))
    .map((file) => readFileSync(join('src', file), 'utf8')).join('\n')

  const events = [
    ...new Set(eventsOf(runbook)),
    ...[...runbook.matchAll(/"event":"\(([\w|]+)\)"/g)].flatMap(([, names]) => (names as string).split('|'))
  ]
  t.ok(events.length > 8)
  for (const event of events) t.ok(source.includes(`'${event}'`), event)
})
