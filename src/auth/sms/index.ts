import { ConfigError, type Config } from '../../config.js'
import { languages } from '../../markets.js'
import { consoleSms } from './console.js'
import type { SmsSender } from './port.js'
import { smsText, tooLong } from './text.js'
import { webhookSms } from './webhook.js'

export { SmsRefused, SmsUncertain, type SmsMessage, type SmsSender } from './port.js'

/** A new provider is a file of its own and an entry here. */
const providers = { console: consoleSms, webhook: webhookSms }

/** The sender that the configuration names. Throws ConfigError where a message would not fit into one segment. */
export function smsSender (config: Config): SmsSender {
  const problems = languages
    .filter((language) => tooLong(smsText(config, language, '000000')))
    .map((language) => `SMS_APP_NAME makes the ${language} message longer than one SMS`)
  if (problems.length > 0) throw new ConfigError(problems)
  return providers[config.smsProvider](config)
}
