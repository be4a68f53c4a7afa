import { hkdfSync, randomBytes } from 'node:crypto'
import { isIP } from 'node:net'
import proxyAddr from '@fastify/proxy-addr'
import { messageProblems } from '../messages/text.js'
import { ConfigError, envReader } from './env.js'
import { keyIssue } from './keys.js'
import { readDatabase, readRedis } from './stores.js'
import { settingsWarnings } from './warnings.js'
import { readExtraPrefixes } from '../phone/extra-prefixes.js'
import { readTestPhones } from './test-phones.js'

export { ConfigError }

/** Labels of letters, digits and inner hyphens, as phones compare them: in lower case (RFC 1123, section 2.1). */
const hostName = /^(?!-)[a-z0-9-]+(?<!-)(?:\.(?!-)[a-z0-9-]+(?<!-))*$/

/** Standard Webhooks 1.0.0: whsec_ and a key of at least 24 bytes in base64. */
function isWebhookSecret (value: string) {
  const key = Buffer.from(value.replace('whsec_', ''), 'base64')
  return key.length >= 24 && value === `whsec_${key.toString('base64')}`
}

export type Config = ReturnType<typeof loadConfig>

/**
 * Reads the whole configuration from `env` and checks it (CONTRACT, section 3; durations carry their unit in their name).
 * Throws ConfigError with all problems at once.
 */
export function loadConfig (env: NodeJS.ProcessEnv) {
  const problems: string[] = []
  const read = envReader(env, problems)

  const nodeEnv = read.choice('NODE_ENV', ['production', 'development', 'test'], 'production')
  const isProduction = nodeEnv === 'production'
  const required = (...names: string[]) => {
    for (const name of names) if (!read.isSet(name)) problems.push(`${name} is required`)
  }

  const database = readDatabase(read, problems)
  const redis = readRedis(read, problems)
  const webConcurrency = read.integer('WEB_CONCURRENCY', 1, 1, 1024)
  // Codes in the memory of one worker are not known to the others.
  if (isProduction || webConcurrency > 1) required('REDIS_URL')

  const jwtSecret = readSecret('JWT_SECRET') ?? randomBytes(32).toString('base64')
  if (isProduction) required('JWT_SECRET')
  const jwtSecretPrevious = readSecret('JWT_SECRET_PREVIOUS')
  const codeSecret = readSecret('CODE_SECRET')
  const codeSecretPrevious = readSecret('CODE_SECRET_PREVIOUS')
  if (isProduction && codeSecret === jwtSecret) problems.push('JWT_SECRET and CODE_SECRET must differ')

  function readSecret (name: string) {
    const value = read.text(name)
    if (value === undefined || !isProduction) return value
    const issue = keyIssue(value)
    if (issue) problems.push(`${name} ${issue}`)
    return value
  }

  const trustProxy = readTrustProxy()

  function readTrustProxy () {
    const value = read.text('TRUST_PROXY') ?? 'loopback,linklocal,uniquelocal'
    if (value === 'false') return []
    const ranges = value.split(',').map((range) => range.trim())
    try {
      // It takes "1" for an address: 0.0.0.1.
      if (ranges.some((range) => /^\d/.test(range) && !isIP(range.split('/')[0] as string))) throw new Error()
      proxyAddr.compile(ranges)
    } catch {
      problems.push('TRUST_PROXY must be false, or the addresses or CIDR ranges of the gateway, joined by commas')
    }
    return ranges
  }

  const corsOrigins = read.list('CORS_ORIGINS')
  if (corsOrigins.some((origin) => !URL.canParse(origin) || new URL(origin).origin !== origin)) {
    problems.push('CORS_ORIGINS must be origins like https://app.example.com, joined by commas')
  }

  const smsProvider = read.choice('SMS_PROVIDER', ['console', 'webhook', 'twilio'], 'console')
  if (isProduction) required('SMS_PROVIDER')
  if (isProduction && read.text('SMS_PROVIDER') === 'console') problems.push('SMS_PROVIDER console is for development only')
  const smsWebhookUrl = read.url('SMS_WEBHOOK_URL', ['https:', 'http:'])
  // fetch refuses such a URL at every send, with an error that shows it.
  if (smsWebhookUrl && (new URL(smsWebhookUrl).username || new URL(smsWebhookUrl).password)) {
    problems.push('SMS_WEBHOOK_URL must carry no user and no password')
  }
  const smsWebhookSecret = read.text('SMS_WEBHOOK_SECRET')
  if (smsProvider === 'webhook') {
    required('SMS_WEBHOOK_URL', 'SMS_WEBHOOK_SECRET')
    if (smsWebhookSecret && !isWebhookSecret(smsWebhookSecret)) {
      problems.push('SMS_WEBHOOK_SECRET must be whsec_ and at least 24 bytes in base64')
    }
  }
  const twilioAccountSid = read.text('TWILIO_ACCOUNT_SID')
  const twilioFrom = read.text('TWILIO_FROM')
  const twilioMessagingServiceSid = read.text('TWILIO_MESSAGING_SERVICE_SID')
  if (smsProvider === 'twilio') {
    required('TWILIO_ACCOUNT_SID', 'TWILIO_AUTH_TOKEN')
    if (twilioAccountSid && !/^AC[0-9a-f]{32}$/.test(twilioAccountSid)) problems.push('TWILIO_ACCOUNT_SID must be AC and 32 hexadecimal digits')
    if (twilioMessagingServiceSid && !/^MG[0-9a-f]{32}$/.test(twilioMessagingServiceSid)) {
      problems.push('TWILIO_MESSAGING_SERVICE_SID must be MG and 32 hexadecimal digits')
    }
    if (!twilioFrom === !twilioMessagingServiceSid) problems.push('TWILIO_FROM or TWILIO_MESSAGING_SERVICE_SID is required, and only one of them')
  }

  const config = {
    nodeEnv,
    isProduction,
    host: read.text('HOST') ?? '0.0.0.0',
    port: read.integer('PORT', 3000, 0, 65535),
    logLevel: read.choice('LOG_LEVEL', ['fatal', 'error', 'warn', 'info', 'debug', 'trace', 'silent'], 'info'),
    webConcurrency,
    metricsPort: read.integer('METRICS_PORT', 9464, 0, 65535),
    drainSeconds: read.integer('DRAIN_SECONDS', 5, 0, 600),
    docs: read.boolean('DOCS', !isProduction),
    trustProxy,
    corsOrigins,
    ...database,
    databasePoolMax: read.integer('DATABASE_POOL_MAX', 10, 1, 1000),
    databasePreparedStatements: read.boolean('DATABASE_PREPARED_STATEMENTS', true),
    ...redis,
    jwtSecret,
    jwtSecretPrevious,
    jwtTtlSeconds: read.integer('JWT_TTL_SECONDS', 1800, 1, 31_536_000),
    sessionMaxSeconds: read.integer('SESSION_MAX_SECONDS', 15_552_000, 1, 3_153_600_000),
    // RFC 5869; the label keeps this key apart from the one it comes from.
    codeSecret: codeSecret ?? Buffer.from(hkdfSync('sha256', jwtSecret, '', 'phone-auth code', 32)).toString('base64'),
    codeSecretPrevious,
    isCodeSecretDerived: codeSecret === undefined,
    codeTtlSeconds: read.integer('CODE_TTL_SECONDS', 300, 1, 600),
    codeMaxAttempts: read.integer('CODE_MAX_ATTEMPTS', 5, 1, 100),
    codeResendSeconds: read.integer('CODE_RESEND_SECONDS', 60, 1, 3600),
    codeSendsPerHour: read.integer('CODE_SENDS_PER_HOUR', 5, 1, 1_000_000),
    codeSendsPerDay: read.integer('CODE_SENDS_PER_DAY', 10, 1, 1_000_000),
    codeGuessesPerDay: read.integer('CODE_GUESSES_PER_DAY', 50, 1, 1_000_000),
    rateLimitIpMax: read.integer('RATE_LIMIT_IP_MAX', 30, 1, 1_000_000),
    rateLimitIpGuessesPerHour: read.integer('RATE_LIMIT_IP_GUESSES_PER_HOUR', 60, 1, 1_000_000),
    rateLimitIpWindowSeconds: read.integer('RATE_LIMIT_IP_WINDOW_SECONDS', 60, 1, 86_400),
    rateLimitUserMax: read.integer('RATE_LIMIT_USER_MAX', 300, 1, 1_000_000),
    rateLimitUserWindowSeconds: read.integer('RATE_LIMIT_USER_WINDOW_SECONDS', 60, 1, 86_400),
    phoneExtraPrefixes: readExtraPrefixes(read.list('PHONE_EXTRA_PREFIXES'), problems),
    smsGuard: read.choice('SMS_GUARD', ['enforce', 'observe', 'off'], 'enforce'),
    smsGuardBlockSends: read.integer('SMS_GUARD_BLOCK_SENDS', 20, 1, 1_000_000),
    smsGuardMarketSends: read.integer('SMS_GUARD_MARKET_SENDS', 200, 1, 100_000_000),
    smsGuardClientSends: read.integer('SMS_GUARD_CLIENT_SENDS', 10, 1, 1_000_000),
    smsGuardMinVerifiedPercent: read.integer('SMS_GUARD_MIN_VERIFIED_PERCENT', 20, 0, 100),
    smsMarketDailyMax: read.integer('SMS_MARKET_DAILY_MAX', undefined, 1, 100_000_000),
    smsProvider,
    smsWebhookUrl,
    smsWebhookSecret,
    twilioAccountSid,
    twilioAuthToken: read.text('TWILIO_AUTH_TOKEN'),
    twilioFrom,
    twilioMessagingServiceSid,
    smsTimeoutMs: read.integer('SMS_TIMEOUT_MS', 5000, 100, 60_000),
    smsAppName: read.text('SMS_APP_NAME') ?? 'Marque',
    smsWebotpDomain: read.text('SMS_WEBOTP_DOMAIN'),
    smsAndroidHash: read.text('SMS_ANDROID_HASH'),
    testPhones: readTestPhones(read.list('TEST_PHONES'), isProduction, problems)
  }
  if (config.smsAndroidHash && !/^[A-Za-z0-9+/]{11}$/.test(config.smsAndroidHash)) {
    problems.push('SMS_ANDROID_HASH must be the 11 characters that Android made from the package and its certificate')
  }
  if (config.smsWebotpDomain && !hostName.test(config.smsWebotpDomain)) {
    problems.push('SMS_WEBOTP_DOMAIN must be a host name like app.example.com')
  }
  if (config.smsWebotpDomain && config.smsAndroidHash) {
    problems.push('SMS_WEBOTP_DOMAIN and SMS_ANDROID_HASH each need the last line, set one of them')
  }
  problems.push(...messageProblems(config))

  if (problems.length > 0) throw new ConfigError(problems)
  return { ...config, warnings: settingsWarnings(config) }
}
