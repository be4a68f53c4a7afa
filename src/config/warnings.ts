import type { TestPhones } from '../auth/phone-input.js'

/** The settings that are worth a warning. */
interface Settings {
  isProduction: boolean
  isCodeSecretDerived: boolean
  redisTlsVerify: boolean
  smsWebhookUrl: string | undefined
  testPhones: TestPhones
}

/** Whether a URL sends in clear text to another machine. */
function isClearText (url: string): boolean {
  const { protocol, hostname } = new URL(url)
  return protocol === 'http:' && !/^(localhost|127\.[\d.]+|\[::1\])$/.test(hostname)
}

/** What production can run with but should not: one sentence per setting, logged at the start. */
export function settingsWarnings ({ isProduction, isCodeSecretDerived, redisTlsVerify, smsWebhookUrl, testPhones }: Settings): string[] {
  if (!isProduction) return []
  const warnings: string[] = []
  if (isCodeSecretDerived) {
    warnings.push('CODE_SECRET is not set: it is derived from JWT_SECRET, and a new JWT_SECRET forgets pending codes')
  }
  if (!redisTlsVerify) {
    warnings.push('REDIS_TLS_VERIFY is false: anybody between this process and Redis can read and change its data, use REDIS_CA_FILE')
  }
  if (testPhones.size > 0) {
    warnings.push(`TEST_PHONES has ${testPhones.size} numbers with a fixed code: whoever knows both can sign in, remove them after the review`)
  }
  if (smsWebhookUrl !== undefined && isClearText(smsWebhookUrl)) {
    warnings.push('SMS_WEBHOOK_URL is http: numbers and codes cross the network in clear text, use https')
  }
  return warnings
}
