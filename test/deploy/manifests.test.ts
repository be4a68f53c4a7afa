import { existsSync, readdirSync, readFileSync } from 'node:fs'
import { join } from 'node:path'
import t from 'tap'
import { parseAllDocuments } from 'yaml'
import { loadConfig } from '../../src/config/index.js'
import type { Json } from '../helpers/service.js'

const read = (file: string) => readFileSync(file, 'utf8')
const files = readdirSync('deploy')
const documentsOf = (file: string) => parseAllDocuments(read(join('deploy', file)), { merge: true, strict: true })
const objectsOf = (file: string): Json[] => documentsOf(file).map((document) => document.toJS() as Json)

/** The secrets of an operator. compose.yaml builds its two URLs of stores itself. */
const secrets: Record<string, string> = {
  DATABASE_URL: 'postgres://user:password@host/db',
  REDIS_URL: 'redis://host',
  JWT_SECRET: 'jwt-secret'.repeat(4),
  CODE_SECRET: 'code-secret'.repeat(3),
  SMS_WEBHOOK_SECRET: `whsec_${Buffer.alloc(24).toString('base64')}`
}
const chosen: Record<string, string> = {
  ...secrets,
  POSTGRES_PASSWORD: 'p',
  SERVICE_PASSWORD: 's',
  REDIS_PASSWORD: 'r',
  SMS_WEBHOOK_URL: 'https://sms.example.com'
}
const interpolate = (text: string) => text.replace(/\$\{(\w+):\?\}/g, (_whole, name: string) => {
  if (!(name in chosen)) throw new Error(`${name} is not known`)
  return chosen[name] as string
})

const compose = objectsOf('compose.yaml')[0]
const services = Object.entries<Json>(compose.services)
const ours = services.filter(([, { image }]) => image === 'phone-auth')
const kubernetes = objectsOf('kubernetes.yaml')
const ofKind = (kind: string) => kubernetes.find((object) => object.kind === kind)
const deployment = ofKind('Deployment')
const pods = [deployment, ofKind('Job')].map(({ spec }) => spec.template.spec)
const container = pods[0].containers[0]
const plainEnv = (env: Json[]) =>
  Object.fromEntries(env.map(({ name, value }) => [name, value ?? secrets[name]])) as Record<string, string>

const documented = new Set([...read('.env.example').matchAll(/^(?:# )?([A-Z_]+)=/gm)].map(([, name]) => name as string))
const dockerfile = read('Dockerfile')
const imageEnv = Object.fromEntries(
  [...dockerfile.matchAll(/^ENV (\w+)=(.*)$/gm)].map(([, name, value]) => [name, value])
) as Record<string, string>

/** The environment of every container that runs the service. */
const environments = [
  ...ours.filter(([name]) => name !== 'migrate').map(([, { environment }]) =>
    Object.fromEntries(Object.entries<string>(environment).map(([name, value]) => [name, interpolate(value)]))),
  { ...secrets, ...plainEnv(container.env) }
]

t.test('every YAML file parses without an error or a warning', async (t) => {
  const yaml = files.filter((file) => file.endsWith('.yaml'))
  t.ok(yaml.length >= 3)
  for (const file of yaml) {
    t.strictSame(documentsOf(file).flatMap(({ errors, warnings }) => [...errors, ...warnings]), [], file)
  }
})

t.test('each replica gets a valid environment of documented variables', async (t) => {
  t.equal(environments.length, 3)
  for (const env of environments) {
    t.strictSame(Object.keys(env).filter((name) => !documented.has(name)), [])
    t.match(loadConfig({ ...imageEnv, ...env }), {
      isProduction: true,
      server: { port: 3000 },
      provider: { name: 'webhook' },
      codeSecrets: { isDerived: false }
    })
  }
  const migrations = [
    compose.services.migrate.environment, plainEnv(pods[1].containers[0].env)
  ] as Array<Record<string, string>>
  for (const env of migrations) t.match(interpolate(env.DATABASE_URL as string), /^postgres:/)
})

t.test('no manifest contains a secret', async (t) => {
  for (const [name, { environment = {} }] of services) {
    for (const [variable, value] of Object.entries<string>(environment)) {
      if (/SECRET|PASSWORD|AUTH/.test(variable)) t.match(value, /^\$\{\w+:\?\}$/, `${name} ${variable}`)
      t.notMatch(value.replace(/\$\{\w+:\?\}/g, ''), /:\/\/[^/@]*:[^/@]+@/, `${name} ${variable}`)
    }
  }
  t.notOk(ofKind('Secret'))
  for (const { name, value } of container.env) {
    if (/SECRET|DATABASE_URL|REDIS_URL/.test(name)) t.equal(value, undefined, name)
  }
})

t.test('ports, probes and commands are those of the image', async (t) => {
  const { port } = loadConfig({ ...imageEnv, ...environments.at(-1) }).server
  const ports = Object.fromEntries(container.ports.map(({ name, containerPort }: Json) => [name, containerPort]))
  t.match(ports, { http: port, metrics: 9464 })
  t.match(dockerfile, new RegExp(`^EXPOSE ${port}\\b`, 'm'))
  t.strictSame(ofKind('Service').spec.ports, [{ name: 'http', port, targetPort: 'http' }])
  for (const probe of ['startupProbe', 'livenessProbe', 'readinessProbe']) {
    t.strictSame(
      container[probe].httpGet, { path: probe === 'readinessProbe' ? '/health/ready' : '/health/live', port: 'http' }
    )
  }
  for (const command of [compose.services.migrate.command, pods[1].containers[0].command]) {
    t.match(command, ['node', /^dist\/\w+\.js$/])
    t.ok(existsSync(command[1].replace('dist', 'src').replace('.js', '.ts')))
  }
})

t.test('every container of the service has only the rights that it needs', async (t) => {
  for (const [name, service] of ours) {
    t.match(service, { read_only: true, cap_drop: ['ALL'], security_opt: ['no-new-privileges:true'] }, name)
  }
  for (const pod of pods) {
    t.match(
      pod,
      {
        automountServiceAccountToken: false,
        securityContext: { runAsNonRoot: true, runAsUser: 1000, seccompProfile: { type: 'RuntimeDefault' } }
      }
    )
    t.strictSame(
      pod.containers[0].securityContext,
      { allowPrivilegeEscalation: false, readOnlyRootFilesystem: true, capabilities: { drop: ['ALL'] } }
    )
    t.ok(pod.containers[0].resources.limits.memory)
  }
})

t.test('the replicas use a database role of their own, and only the migration uses the owner', async (t) => {
  const users = ours.map(([name, { environment }]) => [name, new URL(interpolate(environment.DATABASE_URL)).username])

  t.strictSame(users, [['phone-auth-1', 'phone_auth'], ['phone-auth-2', 'phone_auth'], ['migrate', 'postgres']])
  t.strictSame([...read('deploy/role.sql').matchAll(/ ON (.*) TO (\w+);/g)].map(([, tables, role]) => [tables, role]),
    [['users, user_addresses', 'phone_auth'], ['SEQUENCE users_id_seq, user_addresses_id_seq', 'phone_auth']])
})

t.test('the pods reach only named destinations, and the image runs no install script of a package', async (t) => {
  for (const { to } of ofKind('NetworkPolicy').spec.egress) t.ok(to.length > 0)
  const installs = [...dockerfile.matchAll(/^RUN npm ci.*$/gm)].map(([line]) => line)
  t.equal(installs.length, 2)
  for (const line of installs) t.match(line, / --ignore-scripts$/)
})

t.test('every selector in kubernetes.yaml matches existing pods', async (t) => {
  const { labels } = deployment.spec.template.metadata
  for (const kind of ['Deployment', 'PodDisruptionBudget']) {
    t.strictSame(ofKind(kind).spec.selector.matchLabels, labels, kind)
  }
  t.strictSame(ofKind('Service').spec.selector, labels)
  t.match(ofKind('HorizontalPodAutoscaler').spec.scaleTargetRef, { kind: 'Deployment', name: deployment.metadata.name })
  const [expression] = ofKind('NetworkPolicy').spec.podSelector.matchExpressions
  t.strictSame(
    expression.values, [deployment, ofKind('Job')].map(({ spec }) => spec.template.metadata.labels[expression.key])
  )
})

t.test('the gateway files name only the hosts of compose.yaml', async (t) => {
  const names = new Set(services.map(([name]) => name))
  for (const file of ['nginx.conf', 'Caddyfile', 'haproxy.cfg', 'envoy.yaml']) {
    const hosts = new Set([
      ...read(join('deploy', file)).matchAll(/\b(phone-auth-\w+|application)(?::\d+|, port_value)/g)
    ].map(([, host]) => host as string))
    t.strictSame([...hosts].sort(), ['application', 'phone-auth-1', 'phone-auth-2'], file)
    t.ok([...hosts].every((host) => names.has(host)))
  }
  const { subnet } = compose.networks.gateway.ipam.config[0]
  const { ipv4_address: address } = compose.services.gateway.networks.gateway
  t.ok(address.startsWith(subnet.replace(/\d+\/24$/, '')))
  for (const [name, { environment }] of ours) if (name !== 'migrate') t.equal(environment.TRUST_PROXY, address)
})
