import type { RedisConnection } from '../redis/connect.js'
import { parseRedisUrl } from '../redis/url.js'
import { readCertificates } from './certificates.js'
import type { EnvReader } from './env.js'
import { authorityIssue } from './url-issues.js'

/** How to reach Redis; undefined if REDIS_URL is not set or has an issue. */
export function readRedis (env: EnvReader): RedisConnection | undefined {
  const url = env.text('REDIS_URL')
  const issue = url && redisUrlIssue(url)
  if (issue) env.issues.push(`REDIS_URL ${issue}`)
  const ca = readCertificates(env, 'REDIS_CA_FILE')
  const isTls = url === undefined || /^rediss:|[?&]tls=true$/.test(url)
  if (ca && !isTls) {
    env.issues.push('REDIS_CA_FILE needs TLS: begin REDIS_URL with rediss://, or end it with ?tls=true for Sentinel')
  }
  const options = {
    keyPrefix: env.text('REDIS_PREFIX') ?? 'phone-auth:',
    tls: { rejectUnauthorized: env.boolean('REDIS_TLS_VERIFY', true), ...(ca && { ca }) }
  }
  const target = url === undefined ? undefined : parseRedisUrl(url)
  return target && { target, ...options }
}

const sentinelForm = 'redis+sentinel://user:password@host:port,host:port/name'

/** What is wrong with a REDIS_URL, as the end of a sentence that begins with its name. */
function redisUrlIssue (value: string): string | undefined {
  const isSentinel = value.startsWith('redis+sentinel:')
  for (const url of isSentinel ? [] : value.split(/,(?=rediss?:\/\/)/)) {
    const issue = /^rediss?:\/\//.test(url) && authorityIssue(url)
    if (issue === 'must name one host only') return 'must repeat redis:// or rediss:// before each host of a Cluster'
    if (issue) return issue
  }
  const target = parseRedisUrl(value)
  if (target === undefined) {
    return isSentinel
      ? `must be ${sentinelForm}; percent-encode # / ? @ : in a password`
      : `must be redis://… or rediss://…, several of these joined by commas, or ${sentinelForm}`
  }
  if ('sentinels' in target) return undefined
  const urls = ('server' in target ? [target.server] : target.nodes).map((url) => new URL(url))
  if (urls.some(({ pathname }) => !/^(?:\/\d*)?$/.test(pathname))) return 'has a path that is no database number'
  const isNumbered = urls.some(({ pathname }) => !/^\/?0?$/.test(pathname))
  return urls.length > 1 && isNumbered ? 'names a database, but a Cluster has only database 0' : undefined
}
