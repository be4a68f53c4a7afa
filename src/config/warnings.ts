import type { PhoneOptions } from '../auth/phone-input.js'
import type { ProviderOptions } from '../messages/index.js'
import type { RedisConnection } from '../redis/connect.js'

/** The sections that can be worth a warning. */
interface Sections {
  isProduction: boolean
  codeSecrets: { isDerived: boolean }
  redis: RedisConnection | undefined
  provider: ProviderOptions
  phones: PhoneOptions
}

/** Whether a URL sends in clear text to another machine. */
function isClearText (url: string): boolean {
  const { protocol, hostname } = new URL(url)
  return protocol === 'http:' && !/^(localhost|127\.[\d.]+|\[::1\])$/.test(hostname)
}

/** What production can run with but should not: one sentence per setting, logged at the start. */
export function warningsOf ({ isProduction, codeSecrets, redis, provider, phones }: Sections): string[] {
  if (!isProduction) return []
  const warnings: string[] = []
  if (codeSecrets.isDerived) {
    warnings.push('CODE_SECRET is not set: it is derived from JWT_SECRET, and a new JWT_SECRET forgets pending codes')
  }
  if (redis?.tls.rejectUnauthorized === false) {
    warnings.push('REDIS_TLS_VERIFY is false: anybody between this process and Redis can read and change its data, ' +
      'use REDIS_CA_FILE')
  }
  if (phones.testPhones.size > 0) {
    warnings.push(`TEST_PHONES has ${phones.testPhones.size} numbers with a fixed code: ` +
      'whoever knows both can sign in, remove them after the review')
  }
  if (provider.name === 'webhook' && isClearText(provider.url)) {
    warnings.push('SMS_WEBHOOK_URL is http: numbers and codes cross the network in clear text, use https')
  }
  return warnings
}
