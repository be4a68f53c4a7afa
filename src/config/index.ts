import { readCodes, readCodeSecrets } from './codes.js'
import { readDatabase } from './database.js'
import { ConfigError, envReader } from './env.js'
import { readIpLimit, readUserLimit } from './limits.js'
import { readMarketDailyMax, readMessage, readProvider, readPumpingGuard } from './messages.js'
import { readPhones } from './phones.js'
import { readRedis } from './redis.js'
import { readMetrics, readServer } from './server.js'
import { readTokens } from './tokens.js'
import { warningsOf } from './warnings.js'

export { ConfigError }

export type Config = ReturnType<typeof loadConfig>

/** Reads and checks the configuration in `env` (CONTRACT, section 3). Throws ConfigError with all issues. */
export function loadConfig (env: NodeJS.ProcessEnv) {
  const read = envReader(env)
  const nodeEnv = read.choice('NODE_ENV', ['production', 'development', 'test'], 'production')
  const isProduction = nodeEnv === 'production'
  const server = readServer(read, isProduction)
  const metrics = readMetrics(read, server)
  const database = readDatabase(read)
  const redis = readRedis(read)
  // Codes in the memory of one worker are unknown to the others.
  if (isProduction || server.workers > 1) read.require('REDIS_URL')
  const tokens = readTokens(read, isProduction)
  const codeSecrets = readCodeSecrets(read, isProduction, tokens.secret)
  if (isProduction && codeSecrets.current === tokens.secret) read.issues.push('JWT_SECRET and CODE_SECRET must differ')

  const config = {
    nodeEnv,
    isProduction,
    server,
    metrics,
    database,
    redis,
    tokens,
    codeSecrets,
    codes: readCodes(read),
    ipLimit: readIpLimit(read),
    userLimit: readUserLimit(read),
    provider: readProvider(read, isProduction),
    message: readMessage(read),
    pumpingGuard: readPumpingGuard(read),
    marketDailyMax: readMarketDailyMax(read),
    phones: readPhones(read, isProduction)
  }
  if (read.issues.length > 0) throw new ConfigError(read.issues)
  return { ...config, warnings: warningsOf(config) }
}
