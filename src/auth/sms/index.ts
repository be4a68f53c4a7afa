import type { Config } from '../../config.js'
import { consoleSms } from './console.js'
import type { SmsSender } from './port.js'
import { twilioSms } from './twilio.js'
import { webhookSms } from './webhook.js'

export { SmsOptedOut, SmsRefused, SmsUncertain, SmsUnsupported, type SmsContext, type SmsMessage, type SmsSender } from './port.js'

/** A new provider is a file of its own and an entry here. */
const providers = { console: consoleSms, webhook: webhookSms, twilio: twilioSms }

/** The sender that the configuration names. */
export const smsSender = (config: Config): SmsSender => providers[config.smsProvider](config)
