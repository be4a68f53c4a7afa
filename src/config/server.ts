import { isIP } from 'node:net'
import proxyAddr from '@fastify/proxy-addr'
import type { EnvReader } from './env.js'

/** Where the service listens, in how many processes, and how it serves HTTP. */
export function readServer (env: EnvReader, isProduction: boolean) {
  return {
    host: env.text('HOST') ?? '0.0.0.0',
    port: env.integer('PORT', 3000, 0, 65535),
    workers: env.integer('WEB_CONCURRENCY', 1, 1, 1024),
    drainSeconds: env.integer('DRAIN_SECONDS', 5, 0, 600),
    logLevel: env.choice('LOG_LEVEL', ['fatal', 'error', 'warn', 'info', 'debug', 'trace', 'silent'], 'info'),
    /** Whether /openapi.json and /docs are served. */
    hasDocs: env.boolean('DOCS', !isProduction),
    trustProxy: readTrustProxy(env),
    corsOrigins: readCorsOrigins(env)
  }
}

/** IPs, CIDR ranges and names of ranges; none for `false`. */
function readTrustProxy (env: EnvReader): string[] {
  const value = env.text('TRUST_PROXY') ?? 'loopback,linklocal,uniquelocal'
  if (value === 'false') return []
  const ranges = value.split(',').map((range) => range.trim())
  try {
    // proxy-addr reads "1" as the address 0.0.0.1.
    if (ranges.some((range) => /^\d/.test(range) && !isIP(range.replace(/\/.*/s, '')))) throw new Error()
    proxyAddr.compile(ranges)
  } catch {
    env.issues.push('TRUST_PROXY must be false, or the addresses or CIDR ranges of the gateway, joined by commas')
  }
  return ranges
}

function readCorsOrigins (env: EnvReader): string[] {
  const origins = env.list('CORS_ORIGINS')
  if (origins.some((origin) => !URL.canParse(origin) || new URL(origin).origin !== origin)) {
    env.issues.push('CORS_ORIGINS must be origins like https://app.example.com, joined by commas')
  }
  return origins
}

/** Where the metrics listener listens: on the host of the service. Port 0 stands for no listener. */
export function readMetrics (env: EnvReader, { host }: { host: string }) {
  return { host, port: env.integer('METRICS_PORT', 9464, 0, 65535) }
}
