import { readdirSync, readFileSync } from 'node:fs'
import t from 'tap'
import { ConfigError, loadConfig, type Config } from '../../src/config/index.js'
import { exampleJwtSecret } from '../../src/config/keys.js'
import { variables } from '../../src/config/variables.js'
import { parseRedisUrl } from '../../src/redis/url.js'
import { productionEnv } from '../helpers/service.js'

type Env = Record<string, string | undefined>

const complete = productionEnv(
  'postgres://user:database-password@db.example:5432/app',
  'redis://:redis-password@redis.example:6379'
)
/** A production environment with only the required variables. */
const required: Env = {
  ...complete,
  HOST: undefined,
  PORT: undefined,
  LOG_LEVEL: undefined,
  DRAIN_SECONDS: undefined,
  METRICS_PORT: undefined,
  CODE_SECRET: undefined,
  RATE_LIMIT_IP_MAX: undefined,
  RATE_LIMIT_IP_GUESSES_PER_HOUR: undefined,
  RATE_LIMIT_USER_MAX: undefined,
  SMS_GUARD_BLOCK_SENDS: undefined,
  SMS_GUARD_MARKET_SENDS: undefined,
  SMS_GUARD_CLIENT_SENDS: undefined
}
const development: Env = { NODE_ENV: 'development', DATABASE_URL: complete.DATABASE_URL }

/** Returns the issues of an environment, one line each, or none if loadConfig accepts it. */
function faults (env: Env): string[] {
  try {
    loadConfig(env)
    return []
  } catch (error) {
    if (error instanceof ConfigError) return error.issues
    throw error
  }
}
const names = (issues: string[]) => issues.map((issue) => issue.split(' ')[0])

/** Reads the setting of a variable from the configuration. */
type Member = (config: Config) => unknown

/** Every whole number: its setting, its default and its bounds, which are both valid. */
const integers: Array<[name: string, member: Member, fallback: number | undefined, min: number, max: number]> = [
  ['PORT', ({ server }) => server.port, 3000, 0, 65535],
  ['WEB_CONCURRENCY', ({ server }) => server.workers, 1, 1, 1024],
  ['DRAIN_SECONDS', ({ server }) => server.drainSeconds, 5, 0, 600],
  ['METRICS_PORT', ({ metrics }) => metrics.port, 9464, 0, 65535],
  ['DATABASE_POOL_MAX', ({ database }) => database.poolMax, 10, 1, 1000],
  ['DATABASE_CONNECT_TIMEOUT_MS', ({ database }) => database.connectTimeoutMs, 3000, 1, 600_000],
  ['JWT_TTL_SECONDS', ({ tokens }) => tokens.ttlSeconds, 1800, 1, 31_536_000],
  ['SESSION_MAX_SECONDS', ({ tokens }) => tokens.sessionMaxSeconds, 15_552_000, 1, 3_153_600_000],
  ['CODE_TTL_SECONDS', ({ codes }) => codes.ttlMs / 1000, 300, 1, 600],
  ['CODE_MAX_ATTEMPTS', ({ codes }) => codes.maxAttempts, 5, 1, 100],
  ['CODE_RESEND_SECONDS', ({ codes }) => codes.resendMs / 1000, 60, 1, 3600],
  ['CODE_SENDS_PER_HOUR', ({ codes }) => codes.sendsPerHour, 5, 1, 1_000_000],
  ['CODE_SENDS_PER_DAY', ({ codes }) => codes.sendsPerDay, 10, 1, 1_000_000],
  ['CODE_GUESSES_PER_DAY', ({ codes }) => codes.guessesPerDay, 50, 1, 1_000_000],
  ['SMS_TIMEOUT_MS', ({ provider }) => 'timeoutMs' in provider && provider.timeoutMs, 5000, 100, 60_000],
  ['RATE_LIMIT_IP_MAX', ({ ipLimit }) => ipLimit.max, 30, 1, 1_000_000],
  ['RATE_LIMIT_IP_GUESSES_PER_HOUR', ({ ipLimit }) => ipLimit.guessesPerHour, 60, 1, 1_000_000],
  ['RATE_LIMIT_IP_WINDOW_SECONDS', ({ ipLimit }) => ipLimit.windowSeconds, 60, 1, 86_400],
  ['RATE_LIMIT_USER_MAX', ({ userLimit }) => userLimit.max, 300, 1, 1_000_000],
  ['RATE_LIMIT_USER_WINDOW_SECONDS', ({ userLimit }) => userLimit.windowSeconds, 60, 1, 86_400],
  ['SMS_GUARD_BLOCK_SENDS', ({ pumpingGuard }) => pumpingGuard.blockSends, 20, 1, 1_000_000],
  ['SMS_GUARD_MARKET_SENDS', ({ pumpingGuard }) => pumpingGuard.marketSends, 200, 1, 100_000_000],
  ['SMS_GUARD_CLIENT_SENDS', ({ pumpingGuard }) => pumpingGuard.clientSends, 10, 1, 1_000_000],
  ['SMS_MARKET_DAILY_MAX', ({ marketDailyMax }) => marketDailyMax, undefined, 1, 100_000_000],
  ['SMS_GUARD_MIN_VERIFIED_PERCENT', ({ pumpingGuard }) => pumpingGuard.minVerifiedPercent, 20, 0, 100]
]

for (const [name, member, fallback, min, max] of integers) {
  t.test(`${name} is a whole number from ${min} to ${max}, by default ${fallback ?? 'unset'}`, async (t) => {
    t.equal(member(loadConfig(required)), fallback)
    t.equal(member(loadConfig({ ...required, [name]: '' })), fallback, 'empty counts as not set')
    for (const value of [min, max]) t.equal(member(loadConfig({ ...required, [name]: String(value) })), value)
    for (const value of [
      String(min - 1), String(max + 1), `${min}.5`, ` ${max}`, `${max} `,
      '1e2', '0x10', 'ten', '-1', '+5', '٣', 'NaN', 'Infinity'
    ]) {
      t.strictSame(names(faults({ ...required, [name]: value })), [name], JSON.stringify(value))
    }
  })
}

const logLevels = ['fatal', 'error', 'warn', 'info', 'debug', 'trace', 'silent']

/** Every choice: its setting, its default in production, and all valid values with their meaning. */
const choices: Array<[name: string, member: Member, fallback: unknown, values: Record<string, unknown>]> = [
  ['LOG_LEVEL', ({ server }) => server.logLevel, 'info', Object.fromEntries(logLevels.map((level) => [level, level]))],
  [
    'DATABASE_PREPARED_STATEMENTS', ({ database }) => database.usesPreparedStatements, true,
    { true: true, false: false }
  ],
  ['REDIS_TLS_VERIFY', ({ redis }) => redis?.tls.rejectUnauthorized, true, { true: true, false: false }],
  ['DOCS', ({ server }) => server.hasDocs, false, { true: true, false: false }],
  [
    'SMS_GUARD', ({ pumpingGuard }) => pumpingGuard.mode, 'enforce',
    { enforce: 'enforce', observe: 'observe', off: 'off' }
  ],
  [
    'NODE_ENV', ({ nodeEnv }) => nodeEnv, 'production',
    { production: 'production', development: 'development', test: 'test' }
  ]
]

for (const [name, member, fallback, values] of choices) {
  t.test(`${name} is one of ${Object.keys(values).join(', ')}, by default ${fallback}`, async (t) => {
    t.equal(member(loadConfig({ ...required, [name]: undefined })), fallback)
    t.equal(member(loadConfig({ ...required, [name]: '' })), fallback, 'empty counts as not set')
    for (const [value, meaning] of Object.entries(values)) {
      t.equal(member(loadConfig({ ...required, [name]: value })), meaning)
    }
    for (const value of ['other', fallback + ' ', String(fallback).toUpperCase(), '0']) {
      t.strictSame(names(faults({ ...required, [name]: value })), [name], value)
    }
  })
}

/** Every text: its setting, its default and a value that loadConfig keeps unchanged. */
const texts: Array<[name: string, member: Member, fallback: string | undefined, value: string]> = [
  ['HOST', ({ server }) => server.host, '0.0.0.0', '::1'],
  ['SMS_APP_NAME', ({ message }) => message.appName, 'Marque', 'Acme Food'],
  ['SMS_WEBOTP_DOMAIN', ({ message }) => message.webotpDomain, undefined, 'app.example.com'],
  ['SMS_ANDROID_HASH', ({ message }) => message.androidHash, undefined, 'FA+9qCX9VSu']
]

for (const [name, member, fallback, value] of texts) {
  t.test(`${name} is by default ${fallback ?? 'unset'}, and accepts ${value}`, async (t) => {
    t.equal(member(loadConfig(required)), fallback)
    t.equal(member(loadConfig({ ...required, [name]: '' })), fallback)
    t.equal(member(loadConfig({ ...required, [name]: value })), value)
  })
}

t.test('loadConfig refuses autofill settings that no phone understands', async (t) => {
  for (const value of [
    'https://app.example.com', 'app.example.com/', 'App.example.com', 'a b', '@app.example.com', 'app\n.example.com',
    '.', 'app..example', 'app.example.', '-app.example', 'app-.example', 'app_1.example'
  ]) {
    t.strictSame(names(faults({ ...required, SMS_WEBOTP_DOMAIN: value })), ['SMS_WEBOTP_DOMAIN'], value)
  }
  for (const value of ['FA+9qCX9VS', 'FA+9qCX9VSuu', 'FA+9qCX9VS=', 'FA+9qCX9VS\n', 'FA+9qCX\nVSu']) {
    t.strictSame(names(faults({ ...required, SMS_ANDROID_HASH: value })), ['SMS_ANDROID_HASH'], value)
  }
  const both = { SMS_WEBOTP_DOMAIN: 'app.example.com', SMS_ANDROID_HASH: 'FA+9qCX9VSu' }
  t.strictSame(names(faults({ ...required, ...both })), ['SMS_WEBOTP_DOMAIN'], 'both need the last line')
})

/** Every URL: its setting, valid values and invalid values. */
const urls: Array<[name: string, member: Member, good: string[], bad: string[]]> = [
  [
    'DATABASE_URL', ({ database }) => database.url,
    ['postgres://u:p@h:1/d', 'postgresql://h/d?sslmode=require'],
    ['mysql://h/d', 'h:5432/d', 'postgres', 'postgres://h:port/d']
  ],
  [
    'REDIS_URL', ({ redis }) => redis?.target,
    [
      'redis://h', 'rediss://:p@h:6380/1', 'redis://a:1,redis://b:2', 'redis+sentinel://a:1,b:2/name',
      'redis+sentinel://u:p%40@[::1]/name?tls=true'
    ],
    [
      'http://h', 'h:6379', 'redis', 'redis://h:port', 'redis://', 'redis://a,http://b', 'redis+sentinel://a:1',
      'redis+sentinel://a:x/name', 'redis+sentinel://u:%zz@a/name', 'redis+sentinel://a/name?tls=1'
    ]
  ],
  [
    'SMS_WEBHOOK_URL', ({ provider }) => 'url' in provider && provider.url,
    ['https://h/p?q=1', 'http://h:8080/'],
    ['ftp://h/', 'h/p', 'https://', 'https://user:password@h/', 'https://user@h/']
  ]
]

for (const [name, member, good, bad] of urls) {
  t.test(`production requires ${name}, and loadConfig refuses a URL that the service cannot use`, async (t) => {
    for (const value of good) {
      const expected = name === 'REDIS_URL' ? parseRedisUrl(value) : value
      t.strictSame(member(loadConfig({ ...required, [name]: value })), expected)
    }
    for (const value of bad) t.strictSame(names(faults({ ...required, [name]: value })), [name], value)
    t.strictSame(faults({ ...required, [name]: undefined }), [`${name} is required`])
    t.strictSame(faults({ ...required, [name]: '' }), [`${name} is required`])
  })
}

t.test('TRUST_PROXY defaults to the private ranges and accepts addresses, ranges, range names or false', async (t) => {
  const trusted = (value?: string) => loadConfig({ ...required, TRUST_PROXY: value }).server.trustProxy
  t.strictSame(trusted(), ['loopback', 'linklocal', 'uniquelocal'])
  t.strictSame(trusted(''), ['loopback', 'linklocal', 'uniquelocal'])
  t.strictSame(trusted('false'), [])
  t.strictSame(trusted('10.0.0.0/8, 192.0.2.7'), ['10.0.0.0/8', '192.0.2.7'])
  t.strictSame(trusted('loopback,2001:db8::/32'), ['loopback', '2001:db8::/32'])
})

t.test('loadConfig refuses a TRUST_PROXY that lets clients choose their IP or has no meaning', async (t) => {
  for (const value of [
    'true', '1', '2', '0', '0.0.0.0/0', '::/0', 'false,loopback', 'loopback,', ',', 'gateway.example',
    '10.0.0.0/33', '10.0.0/8', '256.0.0.1', '10.1', '0x7f000001', '10.0.0.1/', '*', 'all'
  ]) {
    t.strictSame(names(faults({ ...required, TRUST_PROXY: value })), ['TRUST_PROXY'], value)
  }
})

t.test('CORS_ORIGINS is a list of origins, by default none', async (t) => {
  const origins = (value?: string) => loadConfig({ ...required, CORS_ORIGINS: value }).server.corsOrigins
  t.strictSame(origins(), [])
  t.strictSame(
    origins('https://app.example.com, http://localhost:5173,'),
    ['https://app.example.com', 'http://localhost:5173']
  )
  for (const value of [
    '*', 'null', 'app.example.com', 'https://app.example.com/', 'https://app.example.com/path',
    'https://APP.example.com', 'https://app.example.com:443', '/./'
  ]) {
    t.strictSame(names(faults({ ...required, CORS_ORIGINS: value })), ['CORS_ORIGINS'], value)
  }
})

t.test('TEST_PHONES is a list of numbers with their codes, by default none', async (t) => {
  const phones = (value?: string) => [...loadConfig({ ...required, TEST_PHONES: value }).phones.testPhones]
  t.strictSame(phones(), [])
  t.strictSame(phones(''), [])
  t.strictSame(phones('+13125550100=480513, +996000000001=271828,'), [
    ['+13125550100', { market: 'us', code: '480513' }], ['+996000000001', { market: 'kg', code: '271828' }]
  ])
  const entry = { market: 'us', code: '480513' }
  t.strictSame(phones('1 (312) 555-0100=480513'), [['+13125550100', entry]], 'in any spelling')
  t.strictSame(phones('+14165550100=480513'), [['+14165550100', entry]], 'the prefix is enough')
  t.strictSame(phones(`+1${'5'.repeat(14)}=480513`), [[`+1${'5'.repeat(14)}`, entry]])
})

t.test('production refuses TEST_PHONES codes of one repeated or running digit, development accepts them', async (t) => {
  for (const code of [
    '000000', '777777', '123456', '012345', '456789', '654321', '987654', '543210', '890123', '901234', '210987'
  ]) {
    const env = { TEST_PHONES: `+13125550101=480513,+13125550100=${code}` }
    const issue = 'TEST_PHONES entry 2 has a code of one repeated or running digit'
    t.strictSame(faults({ ...required, ...env }), [issue], code)
    t.equal(loadConfig({ ...development, ...env }).phones.testPhones.size, 2)
  }
  for (const code of ['480513', '123455', '121212', '135791', '112233']) {
    t.strictSame(faults({ ...required, TEST_PHONES: `+13125550100=${code}` }), [], code)
  }
})

t.test('loadConfig reports each invalid entry of TEST_PHONES by position, without number and code', async (t) => {
  const form = 'must be a number with its country code, an equals sign and six digits'
  for (const value of [
    '+13125550100', '+13125550100=12345', '+13125550100=4805137', '+13125550100=12345a', '+13125550100=', '=480513',
    '+13125550100==480513', '+13125550100=١٢٣٤٥٦', '+1312555x=480513', '++13125550100=480513', '+199999=480513',
    '+1=480513', `+1${'5'.repeat(15)}=480513`, '+13125550100:480513'
  ]) {
    t.strictSame(faults({ ...required, TEST_PHONES: value }), [`TEST_PHONES entry 1 ${form}`], value)
  }
  const entries = ['+13125550100=480513', '+442079460000=480513', '+13125550101=12345', '1-312-555-0100=480514']
  t.strictSame(faults({ ...required, PORT: 'http', TEST_PHONES: entries.join() }), [
    'PORT must be a whole number from 0 to 65535',
    'TEST_PHONES entry 2 has a number without the prefix of a market',
    `TEST_PHONES entry 3 ${form}`,
    'TEST_PHONES entry 4 has the number of an entry before it'
  ])
})

t.test('PHONE_EXTRA_PREFIXES is a list of ranges, each within a market and narrower than it', async (t) => {
  const ranges = (value?: string) => loadConfig({ ...required, PHONE_EXTRA_PREFIXES: value }).phones.extraPrefixes
  t.strictSame(ranges(), [])
  t.strictSame(ranges('kg:+996601, us:+1565,'), [
    { market: 'kg', prefix: '+996601' }, { market: 'us', prefix: '+1565' }
  ])
  const entries = [
    'kg:+996601', 'kg', '+996601', 'kg:996601', 'zz:+996601', 'kg:+1565', 'kg:+996', 'us:+1', 'kg:+9966011234567',
    'kg:+99660x', 'constructor:+1'
  ]
  t.strictSame(faults({ ...required, PHONE_EXTRA_PREFIXES: entries.join() }), entries.slice(1).map((_, index) =>
    `PHONE_EXTRA_PREFIXES entry ${index + 2} must be a market and the beginning of its numbers, like kg:+996601`))
})

t.test('production needs only its required variables', async (t) => {
  const config = loadConfig(required)
  t.ok(config.isProduction)
  t.equal(config.tokens.secret, complete.JWT_SECRET)
  t.equal(config.provider.name, 'webhook')
})

t.test('production reports every required variable that is missing', async (t) => {
  t.strictSame(faults({}).sort(), [
    'DATABASE_URL is required', 'JWT_SECRET is required', 'REDIS_URL is required', 'SMS_PROVIDER is required'
  ])
  t.strictSame(
    names(faults({ NODE_ENV: 'staging' })).sort(),
    ['DATABASE_URL', 'JWT_SECRET', 'NODE_ENV', 'REDIS_URL', 'SMS_PROVIDER'],
    'an unknown environment is as strict as production'
  )
})

t.test('production refuses guessable keys', async (t) => {
  for (const name of ['JWT_SECRET', 'JWT_SECRET_PREVIOUS', 'CODE_SECRET', 'CODE_SECRET_PREVIOUS']) {
    for (const value of [
      'short-but-various', 'abcdefgh'.repeat(4).slice(1), 'a'.repeat(64), '0123456'.repeat(9), exampleJwtSecret,
      `"${exampleJwtSecret}"`, `'${exampleJwtSecret}'`, ` ${exampleJwtSecret} `, `${exampleJwtSecret}\r\n`
    ]) {
      t.strictSame(names(faults({ ...required, [name]: value })), [name], value)
    }
    t.strictSame(faults({ ...required, [name]: 'abcdefgh'.repeat(4) }), [])
    t.strictSame(faults({ ...required, [name]: 'ключ-и-код'.repeat(2) }), [], '32 bytes, 8 of them different')
    t.strictSame(faults({ ...development, [name]: 'short' }), [], 'development accepts a key of any length')
  }
})

t.test('production refuses one key for two purposes', async (t) => {
  const same = { JWT_SECRET: 'abcdefgh'.repeat(4), CODE_SECRET: `${'abcdefgh'.repeat(4)}\n` }
  t.strictSame(faults({ ...required, ...same }), ['JWT_SECRET and CODE_SECRET must differ'])
  t.strictSame(faults({ ...development, ...same }), [])
})

t.test('loadConfig removes line ends after a value and treats a blank variable as unset', async (t) => {
  const ends = Object.fromEntries(Object.entries(required).map(([name, value]) => [name, value && `${value}\r\n`]))
  t.strictSame(loadConfig(ends), loadConfig(required))
  const blank = Object.fromEntries([...namesThatAreRead()].map((name) => [name, ' \t\n']))
  t.strictSame(loadConfig({ ...blank, ...required }), loadConfig(required))
  t.strictSame(faults({ ...blank, NODE_ENV: 'production' }), faults({ NODE_ENV: 'production' }))
})

t.test('production warns about a derived key, test numbers and an unencrypted webhook', async (t) => {
  const warnings = (env: Env) =>
    names(loadConfig({ ...complete, SMS_WEBHOOK_URL: 'https://sms.example/', ...env }).warnings)
  t.strictSame(warnings({}), [])
  t.strictSame(warnings({ CODE_SECRET: '' }), ['CODE_SECRET'])
  const testPhones = '+13125550100=480513,+13125550101=271828'
  t.match(loadConfig({ ...complete, TEST_PHONES: testPhones }).warnings, [/^TEST_PHONES has 2 numbers/])
  for (const url of [
    'http://sms.example/', 'http://10.0.0.1:8080/', 'http://localhost.example/', 'http://127.example/'
  ]) {
    t.strictSame(warnings({ SMS_WEBHOOK_URL: url }), ['SMS_WEBHOOK_URL'], url)
  }
  for (const url of ['http://127.0.0.1:9/', 'http://127.1.2.3/', 'http://localhost/', 'http://[::1]:8080/']) {
    t.strictSame(warnings({ SMS_WEBHOOK_URL: url }), [], url)
  }
  const unsafe = { SMS_WEBHOOK_URL: 'http://sms.example/', TEST_PHONES: '+13125550100=480513' }
  t.strictSame(loadConfig({ ...development, ...unsafe }).warnings, [])
})

t.test('SMS_PROVIDER is webhook or twilio, or console outside production', async (t) => {
  t.strictSame(names(faults({ ...required, SMS_PROVIDER: 'console' })), ['SMS_PROVIDER'])
  t.strictSame(names(faults({ ...required, SMS_PROVIDER: 'pigeon' })), ['SMS_PROVIDER'])
  t.strictSame(names(faults({ ...development, SMS_PROVIDER: 'pigeon' })), ['SMS_PROVIDER'])
  for (const NODE_ENV of ['development', 'test']) {
    t.equal(loadConfig({ ...development, NODE_ENV }).provider.name, 'console')
    t.equal(loadConfig({ ...development, NODE_ENV, SMS_PROVIDER: 'console' }).provider.name, 'console')
  }
})

t.test('a webhook needs its URL and a valid signing secret, also in development', async (t) => {
  const webhook = { ...development, SMS_PROVIDER: 'webhook' }
  t.strictSame(faults(webhook), ['SMS_WEBHOOK_URL is required', 'SMS_WEBHOOK_SECRET is required'])
  const key = (bytes: number) => `whsec_${Buffer.alloc(bytes, 'key').toString('base64')}`
  for (const value of [key(24), key(25), key(26), key(64)]) {
    t.strictSame(faults({ ...webhook, SMS_WEBHOOK_URL: 'http://h/', SMS_WEBHOOK_SECRET: value }), [], value)
  }
  for (const value of [
    key(23), key(24).slice('whsec_'.length), 'secret', 'whsec_', `${key(24)}A`, `${key(24)}AA`,
    key(25).replace(/=+$/, ''), `${key(24)}\t`, `whsec_${'-'.repeat(32)}`
  ]) {
    const issues = faults({ ...webhook, SMS_WEBHOOK_URL: 'http://h/', SMS_WEBHOOK_SECRET: value })
    t.strictSame(names(issues), ['SMS_WEBHOOK_SECRET'], value)
  }
})

t.test('Twilio needs an account, its token and exactly one sender', async (t) => {
  const account = { TWILIO_ACCOUNT_SID: `AC${'0123456789abcdef'.repeat(2)}`, TWILIO_AUTH_TOKEN: 'token' }
  const service = { TWILIO_MESSAGING_SERVICE_SID: `MG${'0123456789abcdef'.repeat(2)}` }
  const sender = 'TWILIO_FROM or TWILIO_MESSAGING_SERVICE_SID is required, and only one of them'
  const twilio = (env: Env) => faults({ ...required, SMS_PROVIDER: 'twilio', ...env })
  t.strictSame(twilio({ ...account, TWILIO_FROM: '+15005550006' }), [])
  t.strictSame(twilio({ ...account, ...service }), [])
  const provider = (env: Env) => loadConfig({ ...required, SMS_PROVIDER: 'twilio', ...account, ...env }).provider
  const common = { name: 'twilio', accountSid: account.TWILIO_ACCOUNT_SID, authToken: 'token', timeoutMs: 5000 }
  t.strictSame(provider(service), { ...common, sender: { messagingServiceSid: service.TWILIO_MESSAGING_SERVICE_SID } })
  t.strictSame(provider({ TWILIO_FROM: '+15005550006' }), { ...common, sender: { from: '+15005550006' } })
  t.strictSame(twilio({}), ['TWILIO_ACCOUNT_SID is required', 'TWILIO_AUTH_TOKEN is required', sender])
  t.strictSame(twilio(account), [sender])
  t.strictSame(twilio({ ...account, ...service, TWILIO_FROM: '+15005550006' }), [sender])
  for (const sid of [
    'AC1', `SK${'0'.repeat(32)}`, `AC${'0'.repeat(33)}`, `AC${'g'.repeat(32)}`, `AC${'0'.repeat(32)}\t`
  ]) {
    const issues = twilio({ ...account, ...service, TWILIO_ACCOUNT_SID: sid })
    t.strictSame(names(issues), ['TWILIO_ACCOUNT_SID'], sid)
  }
  for (const sid of ['MG1', `AC${'0'.repeat(32)}`]) {
    const issues = twilio({ ...account, TWILIO_MESSAGING_SERVICE_SID: sid })
    t.strictSame(names(issues), ['TWILIO_MESSAGING_SERVICE_SID'], sid)
  }
  const invalid = { TWILIO_ACCOUNT_SID: 'AC1', TWILIO_FROM: '1', TWILIO_MESSAGING_SERVICE_SID: '1' }
  t.strictSame(faults({ ...required, ...invalid }), [], 'another provider does not read them')
})

t.test('development needs only a database and generates new keys at each start', async (t) => {
  const [one, other] = [loadConfig(development), loadConfig(development)]
  t.equal(one.redis, undefined)
  t.notOk(one.isProduction)
  t.ok(Buffer.byteLength(one.tokens.secret) >= 32)
  t.not(one.tokens.secret, other.tokens.secret)
})

t.test('several workers need a shared Redis, also in development', async (t) => {
  t.strictSame(faults({ ...development, WEB_CONCURRENCY: '2' }), ['REDIS_URL is required'])
  t.strictSame(faults({ ...development, WEB_CONCURRENCY: '2', REDIS_URL: 'redis://h' }), [])
})

t.test('without CODE_SECRET every replica derives the same key from JWT_SECRET', async (t) => {
  const config = loadConfig({ ...required, JWT_SECRET: 'abcdefgh'.repeat(4) })
  t.equal(config.codeSecrets.isDerived, true)
  // HKDF-SHA-256 (RFC 5869) of the key, no salt, info "phone-auth code": a change invalidates every pending code.
  t.equal(config.codeSecrets.current, '6uB/JWvH+IR0MQv/07gxP35x9OqyQRc4iwVvztmiDYM=')
  const own = loadConfig({ ...required, CODE_SECRET: 'code-kit'.repeat(4) })
  t.equal(own.codeSecrets.isDerived, false)
  t.equal(own.codeSecrets.current, 'code-kit'.repeat(4))
})

t.test('loadConfig reports all issues at once, each on its own line that starts with its variable', async (t) => {
  const env = {
    ...required,
    PORT: 'http',
    LOG_LEVEL: 'loud',
    JWT_SECRET: 'short',
    DATABASE_URL: 'db',
    REDIS_URL: 'cache',
    TRUST_PROXY: 'true',
    CORS_ORIGINS: '*,null',
    SMS_PROVIDER: 'webhook',
    SMS_WEBHOOK_URL: 'url',
    SMS_WEBHOOK_SECRET: 'secret',
    SMS_TIMEOUT_MS: '1',
    SMS_APP_NAME: 'x'.repeat(52)
  }
  const issues = faults(env)
  t.strictSame(names(issues).sort(), [
    'CORS_ORIGINS', 'DATABASE_URL', 'JWT_SECRET', 'LOG_LEVEL', 'PORT', 'REDIS_URL', 'SMS_APP_NAME', 'SMS_TIMEOUT_MS',
    'SMS_WEBHOOK_SECRET', 'SMS_WEBHOOK_URL', 'TRUST_PROXY'
  ])
  t.throws(() => loadConfig(env), { message: issues.join('\n') })
})

t.test('no issue shows the value of a variable', async (t) => {
  const secret = 'hunter2-hunter2'
  const read = [...namesThatAreRead()].filter((name) => !name.endsWith('_FILE'))
  const issues = faults(Object.fromEntries(read.map((name) => [name, secret])))
  t.ok(issues.length > 15)
  t.notMatch(issues.join('\n'), secret)
})

/** Returns every name that loadConfig reads, from environments that together make it read all variables. */
function namesThatAreRead (): Set<string> {
  const names = new Set<string>()
  for (const env of [complete, development, {}]) {
    faults(new Proxy<Env>(env, {
      get (target, name: string) {
        names.add(name)
        return target[name]
      }
    }))
  }
  return names
}

t.test('.env.example lists exactly the variables that loadConfig reads', async (t) => {
  const text = readFileSync('.env.example', 'utf8')
  const listed = [...text.matchAll(/^(?:# )?([A-Z][A-Z0-9_]*)=/gm)].map(([, name]) => name)
  const read = namesThatAreRead()
  const isFileOf = (name: string) => name.endsWith('_FILE') && read.has(name.replace(/_FILE$/, ''))
  t.strictSame([...variables].sort(), [...read].filter((name) => !isFileOf(name)).sort())
  t.strictSame(listed.sort(), [...variables].sort())
})

t.test('the documentation mentions each variable', async (t) => {
  const pages = readdirSync('docs').filter((file) => file.endsWith('.md')).map((file) => `docs/${file}`)
  const text = ['README.md', ...pages].map((page) => readFileSync(page, 'utf8')).join()
  const documented = new Set([...text.matchAll(/`([A-Z][A-Z0-9_]*)`/g)].map(([, name]) => name))
  t.strictSame(variables.filter((name) => !documented.has(name)), [])
})

t.test('.env.example shows the defaults and the JWT_SECRET that production refuses', async (t) => {
  const lines = readFileSync('.env.example', 'utf8').matchAll(/^(?:# )?([A-Z][A-Z0-9_]*)=(.*)$/gm)
  const example = Object.fromEntries([...lines].map(([, name, value]) => [name, value]))
  t.equal(example.JWT_SECRET, exampleJwtSecret)
  for (const [name, , fallback] of [...integers, ...choices]) {
    t.equal(example[name as string], String(fallback ?? ''), name as string)
  }
})
