import fp from 'fastify-plugin'
import { collectDefaultMetrics, Counter, Gauge, Registry } from 'prom-client'
import { logEvent, type Audit, type AuthEvent } from '../monitoring/logger.js'
import { marketIds, marketOf } from '../phone/markets.js'
import { unavailableReason, unavailableReasons } from '../redis/refusal.js'
import { version } from '../monitoring/version.js'
import { histogram } from '../monitoring/histogram.js'

declare module 'fastify' {
  interface FastifyInstance {
    /** The metrics of this process; CONTRACT, section 3: METRICS_PORT. */
    metrics: Registry
    /** Counts one statement of the active check: how many users it asked about, and how many seconds it took. */
    countActiveCheck: (users: number, seconds: number) => void
    /** One line of the log and one count for something that happened to an account. */
    audit: (request: FastifyRequest, ...happened: Parameters<Audit>) => void
  }
}

const seconds = [0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10]

/** What anybody can make up must make no series: other methods count as one, and so do all unknown paths. */
const methods = new Set(['GET', 'HEAD', 'POST', 'PUT', 'PATCH', 'DELETE', 'OPTIONS'])
const unknown = 'unknown'

/** prom-client has them as gauges, under names that only counters may have. */
const misnamed = ['nodejs_active_handles_total', 'nodejs_active_requests_total', 'nodejs_active_resources_total']

/** The refusals of a limit by the code of their answer. */
const limits = {
  address: 'rate_limited',
  guesses: 'rate_limited',
  login: 'rate_limited',
  user_in_flight: 'rate_limited',
  user_writes: 'rate_limited',
  too_soon: 'resend_too_soon',
  too_many: 'too_many_sends'
}

const scopes = ['client', 'block', 'market', 'daily']

interface Details { limit: keyof typeof limits, reason: string, scope: string, mode: string }

interface Options {
  /** METRICS_PORT. 0: nothing is measured. */
  port: number
}

export default fp<Options>(async (app, { port }) => {
  const registry = new Registry()
  const registers = [registry]
  app.decorate('metrics', registry)

  const sent = new Counter({ name: 'phone_auth_codes_sent_total', help: 'Codes handed to the SMS provider', labelNames: ['market'], registers })
  const verified = new Counter({ name: 'phone_auth_codes_verified_total', help: 'Codes traded for a token', labelNames: ['market'], registers })
  const refused = new Counter({
    name: 'phone_auth_refused_total', help: 'Sends and verifications refused', labelNames: ['reason', 'market'], registers
  })
  const guarded = new Counter({
    name: 'phone_auth_sms_guard_total', help: 'Decisions of the pumping guard against a send', labelNames: ['scope', 'market', 'mode'], registers
  })
  // A counter that begins with its first event hides that event from rate() and increase().
  const reasons = [...new Set(Object.values(limits)), 'invalid_code', 'sms_failed', 'opted_out', 'unsupported_phone', 'sms_guard']
  for (const reason of reasons) for (const market of [...marketIds, unknown]) refused.inc({ reason, market }, 0)
  for (const market of marketIds) {
    sent.inc({ market }, 0)
    verified.inc({ market }, 0)
    for (const scope of scopes) for (const mode of ['enforce', 'observe']) guarded.inc({ scope, market, mode }, 0)
  }
  const count: Partial<Record<AuthEvent, (market: string, more: Details) => void>> = {
    code_sent: (market) => sent.inc({ market }),
    login: (market) => verified.inc({ market }),
    wrong_code: (market) => refused.inc({ reason: 'invalid_code', market }),
    sms_failed: (market, { reason }) => refused.inc({ reason, market }),
    limit_hit: (market, { limit }) => refused.inc({ reason: limits[limit], market }),
    guard_tripped (market, { scope, mode }) {
      guarded.inc({ scope, market, mode })
      if (mode === 'enforce') refused.inc({ reason: 'sms_guard', market })
    }
  }
  app.decorate('audit', (request, event, who, more = {}) => {
    logEvent(request, event, who, more)
    count[event]?.(who.phone ? marketOf(null, who.phone) : unknown, more as Details)
  })

  const batchUsers = histogram(registry, {
    name: 'phone_auth_active_check_users', help: 'Users asked about in one statement of the active check', buckets: [1, 2, 5, 10, 20, 50, 100, 200, 500, 1000]
  })()
  const batchSeconds = histogram(registry, {
    name: 'phone_auth_active_check_seconds', help: 'Duration of a statement of the active check', buckets: seconds
  })()
  app.decorate('countActiveCheck', (users: number, duration: number) => {
    batchUsers(users)
    batchSeconds(duration)
  })

  const { pools } = app.db
  const sum = (count: (pool: typeof pools[number]) => number) => pools.reduce((total, pool) => total + count(pool), 0)
  // A gauge reads its figure when it is asked for; registering it is all that is needed.
  const gauge = (name: string, help: string, read: () => number) => new Gauge({ name, help, registers, collect () { this.set(read()) } })
  gauge('phone_auth_database_connections', 'Open connections to PostgreSQL', () => sum((pool) => pool.totalCount))
  gauge('phone_auth_database_connections_idle', 'Connections to PostgreSQL that nobody uses', () => sum((pool) => pool.idleCount))
  gauge('phone_auth_database_connections_max', 'DATABASE_POOL_MAX', () => sum((pool) => pool.options.max))
  gauge('phone_auth_database_waiting', 'Statements and transactions that wait for a connection', () => sum((pool) => pool.waitingCount) + app.db.transactions.waitingCount())
  registry.registerMetric(new Gauge({
    name: 'phone_auth_dependency_up',
    help: '1 while PostgreSQL responds, or Redis takes writes; of several workers the worst counts',
    labelNames: ['dependency'],
    aggregator: 'min',
    registers: [],
    collect () {
      this.set({ dependency: 'postgresql' }, Number(app.databaseOutage.isUp()))
      this.set({ dependency: 'redis' }, Number(app.redisOutage.isUp()))
    }
  }))
  registry.registerMetric(new Gauge({
    name: 'phone_auth_redis_unavailable',
    help: '1 for the reason for which Redis is unavailable',
    labelNames: ['reason'],
    aggregator: 'max',
    registers: [],
    collect () {
      const current = app.redisOutage.isUp() ? undefined : unavailableReason(app.redisOutage.cause())
      for (const reason of unavailableReasons) this.set({ reason }, Number(reason === current))
    }
  }))

  // Workers of one process run the same code: their sum would say nothing.
  const build = new Gauge({
    name: 'phone_auth_build_info',
    help: '1, with the version of the service and of Node',
    labelNames: ['version', 'node'],
    aggregator: 'first',
    registers
  })
  build.set({ version, node: process.version }, 1)

  if (port === 0) return
  collectDefaultMetrics({ register: registry })
  for (const name of misnamed) registry.removeSingleMetric(name)

  const series = histogram(registry, { name: 'phone_auth_http_request_seconds', help: 'Requests by route, method and status', buckets: seconds })
  const internalErrors = new Counter({ name: 'phone_auth_internal_errors_total', help: 'Responses of 500: bugs', registers })
  const routes = new Map<string, Map<string, Map<number, (value: number) => void>>>()
  app.addHook('onResponse', (request, reply, done) => {
    const route = request.routeOptions.url ?? unknown
    const method = methods.has(request.method) ? request.method : unknown
    const byStatus = within(within(routes, route, () => new Map()), method, () => new Map())
    const { statusCode } = reply
    if (statusCode === 500) internalErrors.inc()
    within(byStatus, statusCode, () => series({ route, method, status: String(statusCode) }))(reply.elapsedTime / 1000)
    done()
  })
}, { name: 'metrics', dependencies: ['database', 'redis'] })

/** What a map holds under a key; made where there is nothing yet. */
function within<Key, Value> (map: Map<Key, Value>, key: Key, make: () => Value): Value {
  let value = map.get(key)
  if (value === undefined) map.set(key, value = make())
  return value
}
