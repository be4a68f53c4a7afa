import { ConfigError, type Config } from '../../config.js'
import { languages, type Language, type MarketId } from '../../markets.js'
import { consoleSms } from './console.js'
import { smsText, tooLong } from './text.js'
import { webhookSms } from './webhook.js'

export interface SmsMessage {
  /** Stays the same when a message is tried again. */
  id: string
  /** E.164. */
  to: string
  text: string
  market: MarketId
  language: Language
}

/** Hands one message to a provider. Throws SmsRefused or SmsUncertain. */
export type SmsSender = (message: SmsMessage) => Promise<void>

/** The provider did not take the message: it will not arrive. */
export class SmsRefused extends Error {}

/** The provider did not answer in time: the message may still arrive. */
export class SmsUncertain extends Error {}

const providers = { console: consoleSms, webhook: webhookSms }

/** The sender that the configuration names. Throws ConfigError where a message would not fit into one segment. */
export function smsSender (config: Config): SmsSender {
  const problems = languages
    .filter((language) => tooLong(smsText(config, language, '000000')))
    .map((language) => `SMS_APP_NAME makes the ${language} message longer than one SMS`)
  if (problems.length > 0) throw new ConfigError(problems)
  return providers[config.smsProvider](config)
}
