import fp from 'fastify-plugin'
import { collectDefaultMetrics, Counter, Gauge, Registry } from 'prom-client'
import { auditTrail, type Audit } from '../monitoring/audit.js'
import { unavailableReason, unavailableReasons } from '../redis/refusal.js'
import { version } from '../monitoring/version.js'
import { histogram } from '../monitoring/histogram.js'

declare module 'fastify' {
  interface FastifyInstance {
    /** The metrics of this process (CONTRACT, section 3, METRICS_PORT). */
    metrics: Registry
    /** Counts one statement of the active check, with its number of users and its duration in seconds. */
    countActiveCheck: (users: number, seconds: number) => void
    /** Logs and counts an event of an account. */
    audit: (request: FastifyRequest, ...event: Parameters<Audit>) => void
  }
}

const seconds = [0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10]

/** Clients choose method and path: map unknown ones to one label value, because each value is a series. */
const methods = new Set(['GET', 'HEAD', 'POST', 'PUT', 'PATCH', 'DELETE', 'OPTIONS'])
const unknown = 'unknown'

/** Gauges of prom-client with the suffix _total, which is reserved for counters. */
const misnamed = ['nodejs_active_handles_total', 'nodejs_active_requests_total', 'nodejs_active_resources_total']

interface Options {
  /** METRICS_PORT. 0: neither HTTP requests nor the Node.js process are measured. */
  port: number
}

export default fp<Options>(async (app, { port }) => {
  const registry = new Registry()
  const registers = [registry]
  app.decorate('metrics', registry)

  app.decorate('audit', auditTrail(registry))

  const batchUsers = histogram(registry, {
    name: 'phone_auth_active_check_users',
    help: 'Users in one statement of the active check',
    buckets: [1, 2, 5, 10, 20, 50, 100, 200, 500, 1000]
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
  // A gauge registers itself and reads its value at each scrape.
  const gauge = (name: string, help: string, read: () => number) =>
    new Gauge({ name, help, registers, collect () { this.set(read()) } })
  gauge('phone_auth_database_connections', 'Open connections to PostgreSQL', () => sum((pool) => pool.totalCount))
  gauge('phone_auth_database_connections_idle', 'Idle connections to PostgreSQL', () => sum((pool) => pool.idleCount))
  gauge('phone_auth_database_connections_max', 'DATABASE_POOL_MAX', () => sum((pool) => pool.options.max))
  gauge('phone_auth_database_waiting', 'Statements and transactions that wait for a connection',
    () => sum((pool) => pool.waitingCount) + app.db.transactions.waitingCount())
  registry.registerMetric(new Gauge({
    name: 'phone_auth_dependency_up',
    help: '1 while PostgreSQL responds, or Redis accepts writes; the lowest value of all workers',
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
    help: '1 for the reason why Redis is unavailable',
    labelNames: ['reason'],
    aggregator: 'max',
    registers: [],
    collect () {
      const current = app.redisOutage.isUp() ? undefined : unavailableReason(app.redisOutage.cause())
      for (const reason of unavailableReasons) this.set({ reason }, Number(reason === current))
    }
  }))

  // All workers run the same code: a sum over them has no meaning.
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

  const series = histogram(registry, {
    name: 'phone_auth_http_request_seconds', help: 'Requests by route, method and status', buckets: seconds
  })
  const internalErrors = new Counter({
    name: 'phone_auth_internal_errors_total', help: 'Responses of 500: bugs', registers
  })
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

/** Returns the value under a key of a map; makes and stores a missing one. */
function within<Key, Value> (map: Map<Key, Value>, key: Key, make: () => Value): Value {
  let value = map.get(key)
  if (value === undefined) map.set(key, value = make())
  return value
}
