import { consoleSms } from './providers/console.js'
import type { SmsSender } from './port.js'
import { twilioSms, type TwilioOptions } from './providers/twilio.js'
import { webhookSms, type WebhookOptions } from './providers/webhook.js'

export { SmsOptedOut, SmsRefused, SmsUncertain, SmsUnsupported, type SmsContext, type SmsMessage, type SmsSender } from './port.js'

/** A new provider is a file of its own and an entry here. */
const providers = { console: consoleSms, webhook: webhookSms, twilio: twilioSms }

interface SmsOptions extends TwilioOptions, WebhookOptions {
  smsProvider: keyof typeof providers
}

/** The sender that the configuration names. */
export const smsSender = (options: SmsOptions): SmsSender => providers[options.smsProvider](options)
