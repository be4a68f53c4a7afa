import { X509Certificate } from 'node:crypto'
import { parseRedisUrl } from '../redis/url.js'
import type { EnvReader } from './env.js'
import { authorityIssue, databaseUrlIssue } from './url-issues.js'

const longestTimeoutMs = 600_000

/** The certificates of the file that `name` names, in PEM (RFC 7468). */
function readCertificates (read: EnvReader, name: string, problems: string[]): string | undefined {
  const pem = read.file(name)
  if (pem === undefined) return undefined
  try {
    return new X509Certificate(pem) && pem
  } catch {
    problems.push(`${name} must name a file with a certificate in PEM`)
    return undefined
  }
}

/** DATABASE_URL without what DATABASE_CA_FILE decides, or an issue where they contradict each other. */
function verifiedUrl (url: string, problems: string[]): string {
  const [start, query = ''] = url.split(/\?(.*)/s)
  const parameters = new URLSearchParams(query)
  const refuse = (why: string) => problems.push(`DATABASE_CA_FILE ${why}`)
  const mode = parameters.get('sslmode') ?? 'verify-full'
  if (['disable', 'no-verify'].includes(mode)) refuse(`needs TLS: remove sslmode=${mode} from DATABASE_URL`)
  if (parameters.get('host')?.startsWith('/')) refuse('needs TLS, which a Unix socket does not have: remove it')
  if (parameters.has('sslcert')) refuse('does not go with sslcert in DATABASE_URL: use sslrootcert there instead')
  for (const name of ['ssl', 'sslmode', 'sslrootcert']) parameters.delete(name)
  return `${start}${parameters.size > 0 ? `?${parameters}` : ''}`
}

/** Where PostgreSQL is and how to trust it; `url` is empty where there is an issue with it. */
export function readDatabase (read: EnvReader, problems: string[]) {
  const url = read.text('DATABASE_URL') ?? ''
  const issue = url && databaseUrlIssue(url)
  if (issue) problems.push(`DATABASE_URL ${issue}`)
  if (!read.isSet('DATABASE_URL')) problems.push('DATABASE_URL is required')
  const ca = readCertificates(read, 'DATABASE_CA_FILE', problems)
  return {
    databaseUrl: ca && url && !issue ? verifiedUrl(url, problems) : url,
    databaseCa: ca,
    databaseConnectTimeoutMs: read.integer('DATABASE_CONNECT_TIMEOUT_MS', 3000, 1, longestTimeoutMs)
  }
}

/** Where Redis is and how to trust it. */
export function readRedis (read: EnvReader, problems: string[]) {
  const redisUrl = read.text('REDIS_URL')
  const issue = redisUrl && redisUrlIssue(redisUrl)
  if (issue) problems.push(`REDIS_URL ${issue}`)
  const redisCa = readCertificates(read, 'REDIS_CA_FILE', problems)
  const redisTlsVerify = read.boolean('REDIS_TLS_VERIFY', true)
  const isTls = redisUrl === undefined || /^rediss:|[?&]tls=true$/.test(redisUrl)
  if (redisCa && !isTls) {
    problems.push('REDIS_CA_FILE needs TLS: begin REDIS_URL with rediss://, or end it with ?tls=true for Sentinel')
  }
  return { redisUrl, redisCa, redisTlsVerify, redisPrefix: read.text('REDIS_PREFIX') ?? 'phone-auth:' }
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
