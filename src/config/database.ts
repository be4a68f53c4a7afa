import type { DatabaseOptions } from '../db/database.js'
import { readCertificates } from './certificates.js'
import type { EnvReader } from './env.js'
import { databaseUrlIssue } from './url-issues.js'

const longestTimeoutMs = 600_000

/** How to reach PostgreSQL; `url` is empty if it is not set. */
export function readDatabase (env: EnvReader): DatabaseOptions {
  const ca = readCertificates(env, 'DATABASE_CA_FILE')
  return {
    url: readUrl(env, ca),
    ca,
    connectTimeoutMs: env.integer('DATABASE_CONNECT_TIMEOUT_MS', 3000, 1, longestTimeoutMs),
    poolMax: env.integer('DATABASE_POOL_MAX', 10, 1, 1000),
    usesPreparedStatements: env.boolean('DATABASE_PREPARED_STATEMENTS', true)
  }
}

function readUrl (env: EnvReader, ca: string | undefined): string {
  const url = env.text('DATABASE_URL') ?? ''
  env.require('DATABASE_URL')
  const issue = url && databaseUrlIssue(url)
  if (issue) env.issues.push(`DATABASE_URL ${issue}`)
  return ca && url && !issue ? verifiedUrl(env, url) : url
}

/** DATABASE_URL without the parameters that DATABASE_CA_FILE replaces. An issue where the two contradict each other. */
function verifiedUrl (env: EnvReader, url: string): string {
  const [start, query = ''] = url.split(/\?(.*)/s)
  const parameters = new URLSearchParams(query)
  const refuse = (why: string) => env.issues.push(`DATABASE_CA_FILE ${why}`)
  const mode = parameters.get('sslmode') ?? 'verify-full'
  if (['disable', 'no-verify'].includes(mode)) refuse(`needs TLS: remove sslmode=${mode} from DATABASE_URL`)
  if (parameters.get('host')?.startsWith('/')) refuse('needs TLS, which a Unix socket does not have: remove it')
  if (parameters.has('sslcert')) refuse('does not go with sslcert in DATABASE_URL: use sslrootcert there instead')
  for (const name of ['ssl', 'sslmode', 'sslrootcert']) parameters.delete(name)
  return `${start}${parameters.size > 0 ? `?${parameters}` : ''}`
}
