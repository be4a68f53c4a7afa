import { join } from 'node:path'
import { writeFileSync } from 'node:fs'
import t from 'tap'
import { ConfigError, loadConfig } from '../../src/config/index.js'
import { parseRedisUrl } from '../../src/redis/url.js'
import { privateCa } from '../helpers/certificates.js'
import { temporaryFolder } from '../helpers/servers.js'
import { productionEnv } from '../helpers/service.js'

const production = productionEnv('postgres://u:p@db/app', 'rediss://redis')

function issuesOf (env: Record<string, string>): string[] {
  try {
    loadConfig({ ...production, ...env })
    return []
  } catch (error) {
    return (error as ConfigError).issues
  }
}

const encode = 'has # / ? or @ in its password: percent-encode # as %23, / as %2F, ? as %3F, @ as %40'
const oneHost = 'must name one host only'
const port = 'must have a port from 0 to 65535; if this is a part of the password, percent-encode # / ? @ in it'
const host = 'must name a host, or the folder of a Unix socket: ' +
  'postgres://user:password@/db?host=/var/run/postgresql'

for (const [url, issue] of [
  ['postgres://u:hunter#2@db/app', encode],
  ['postgres://u:12#34@db/app', encode],
  ['postgres://u:hunter/2@db/app', encode],
  ['postgres://u:hunter?2@db/app', encode],
  ['postgres://u:hunter@2@db/app', encode],
  ['postgres://u:@/hunter@db/app', encode],
  ['postgres://u:hunter%2@db/app', 'has a % in user or password that begins no escape: percent-encode % as %25'],
  ['postgres://u:hunter2@db1,db2/app', oneHost],
  ['postgres://u:hunter2@db1:5432,db2:5432/app', oneHost],
  ['postgres://u:hunter2@/app?host=db1,db2', oneHost],
  ['postgres://u:hunter2@db:port/app', port],
  ['postgres://u:hunter2@db:65536/app', port],
  ['postgres://u:hunter2@/app', host],
  ['postgres:///app', host],
  ['postgres://u:hunter2@d b/app', 'is not a URL: percent-encode all but letters and digits in user and password'],
  ['mysql://u:hunter2@db/app', 'must be a URL that starts with postgres:// or postgresql://'],
  ['db:5432/app', 'must be a URL that starts with postgres:// or postgresql://']
]) {
  t.test(`loadConfig refuses DATABASE_URL ${url} and states the reason`, async (t) => {
    t.strictSame(issuesOf({ DATABASE_URL: url as string }), [`DATABASE_URL ${issue}`])
  })
}

for (const url of [
  'postgres://db',
  'postgresql://u:p%23%2F%3F%40%25@db:5432/app?sslmode=verify-full',
  'postgres://u:p@[::1]:5432/app',
  'postgres://u:p@/app?host=/run/sql',
  'postgres:///app?host=/run/sql',
  'postgres://db:5432/app?user=me@server',
  'postgres://db:5432?user=me@server'
]) {
  t.test(`loadConfig accepts DATABASE_URL ${url} unchanged`, async (t) => {
    t.equal(loadConfig({ ...production, DATABASE_URL: url }).database.url, url)
  })
}

const sentinelForm = 'redis+sentinel://user:password@host:port,host:port/name'
const sentinel = `must be ${sentinelForm}; percent-encode # / ? @ : in a password`
const redisForms = `must be redis://… or rediss://…, several of these joined by commas, or ${sentinelForm}`

for (const [url, issue] of [
  ['redis://:hunter#2@redis', encode],
  ['redis://:hunter/2@redis', encode],
  ['redis://:hunter@2@redis', encode],
  ['redis://:hunter%2@redis', 'has a % in user or password that begins no escape: percent-encode % as %25'],
  ['redis://a:1,b:2', 'must repeat redis:// or rediss:// before each host of a Cluster'],
  ['redis://a/sub', 'has a path that is no database number'],
  ['redis://a/1/2', 'has a path that is no database number'],
  ['redis://a/-1', 'has a path that is no database number'],
  ['redis://a,redis://b/x', 'has a path that is no database number'],
  ['redis://a/1,redis://b', 'names a database, but a Cluster has only database 0'],
  ['redis+sentinel://u:p@a', sentinel],
  ['redis+sentinel://u:hunter/2@a/main', sentinel],
  ['http://redis', redisForms],
  ['redis://', redisForms]
]) {
  t.test(`loadConfig refuses REDIS_URL ${url} and states the reason`, async (t) => {
    t.strictSame(issuesOf({ REDIS_URL: url as string }), [`REDIS_URL ${issue}`])
  })
}

for (const url of [
  'redis://redis', 'redis://redis/', 'redis://redis/0', 'rediss://u:p%40%23@[::1]:6380/15', 'redis://a,redis://b/0'
]) {
  t.test(`loadConfig accepts and parses REDIS_URL ${url}`, async (t) => {
    t.strictSame(loadConfig({ ...production, REDIS_URL: url }).redis?.target, parseRedisUrl(url))
  })
}

t.test('DATABASE_CA_FILE overrides the TLS of DATABASE_URL, and REDIS_CA_FILE needs a URL with TLS', async (t) => {
  const { ca } = await privateCa(t)
  const files = { DATABASE_CA_FILE: ca, REDIS_CA_FILE: ca }
  const databaseUrl = (DATABASE_URL: string) => loadConfig({ ...production, ...files, DATABASE_URL }).database.url

  t.match(loadConfig({ ...production, ...files }), {
    database: { ca: /BEGIN CERTIFICATE/ }, redis: { tls: { ca: /BEGIN CERTIFICATE/ } }
  })
  t.equal(databaseUrl('postgres://u:p@db/app'), 'postgres://u:p@db/app')
  t.equal(databaseUrl('postgres://u:p@db/app?sslmode=require'), 'postgres://u:p@db/app')
  t.equal(
    databaseUrl('postgres://u:p@db/app?sslmode=verify-ca&sslrootcert=/x&application_name=a'),
    'postgres://u:p@db/app?application_name=a'
  )
  for (const mode of ['disable', 'no-verify']) {
    t.strictSame(issuesOf({ ...files, DATABASE_URL: `postgres://u:p@db/app?sslmode=${mode}` }), [
      `DATABASE_CA_FILE needs TLS: remove sslmode=${mode} from DATABASE_URL`
    ])
  }
  t.match(issuesOf({ ...files, DATABASE_URL: 'postgres://u:p@/app?host=/run' }), [/^DATABASE_CA_FILE .* Unix socket/])
  t.match(issuesOf({ ...files, DATABASE_URL: 'postgres://u:p@db/app?sslcert=/x' }), [/^DATABASE_CA_FILE .* sslcert/])
  t.match(issuesOf({ ...files, DATABASE_URL: 'mysql://db' }), [/^DATABASE_URL/])
  t.match(issuesOf({ ...files, REDIS_URL: 'redis://redis' }), [/^REDIS_CA_FILE needs TLS/])
  t.strictSame(issuesOf({ ...files, REDIS_URL: 'redis+sentinel://a/main?tls=true' }), [])
  t.strictSame(issuesOf({ NODE_ENV: 'development', REDIS_CA_FILE: ca, REDIS_URL: '' }), [])
})

t.test('loadConfig refuses a CA file that it cannot read or that contains no certificate', async (t) => {
  const folder = await temporaryFolder()
  t.teardown(folder.remove)
  const path = join(folder.path, 'ca.pem')
  writeFileSync(path, 'hunter2')
  for (const name of ['DATABASE_CA_FILE', 'REDIS_CA_FILE']) {
    t.strictSame(issuesOf({ [name]: path }), [`${name} must name a file with a certificate in PEM`])
    t.strictSame(issuesOf({ [name]: '/nowhere' }), [`${name} names a file that cannot be read (ENOENT): /nowhere`])
  }
})

t.test('production warns about REDIS_TLS_VERIFY=false', async (t) => {
  const env = { ...production, REDIS_TLS_VERIFY: 'false', SMS_WEBHOOK_URL: 'https://sms.example/' }
  t.match(loadConfig(env).warnings, [/^REDIS_TLS_VERIFY is false/])
})

t.test('REDIS_PREFIX is phone-auth: by default', async (t) => {
  t.equal(loadConfig(production).redis?.keyPrefix, 'phone-auth:')
  t.equal(loadConfig({ ...production, REDIS_PREFIX: '' }).redis?.keyPrefix, 'phone-auth:')
  t.equal(loadConfig({ ...production, REDIS_PREFIX: 'other/' }).redis?.keyPrefix, 'other/')
})
