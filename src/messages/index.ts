import { consoleSms } from './providers/console.js'
import type { SmsSender } from './port.js'
import { twilioSms, type TwilioOptions } from './providers/twilio.js'
import { webhookSms, type WebhookOptions } from './providers/webhook.js'

export {
  SmsOptedOut, SmsRefused, SmsUncertain, SmsUnsupported, type SmsContext, type SmsMessage, type SmsSender
} from './port.js'

/** A provider and its account. A new provider is a new file, a member here and a case below. */
export type ProviderOptions =
  | { name: 'console' }
  | { name: 'webhook' } & WebhookOptions
  | { name: 'twilio' } & TwilioOptions

/** The sender that hands messages to a provider. */
export function smsSender (options: ProviderOptions): SmsSender {
  switch (options.name) {
    case 'console': return consoleSms()
    case 'webhook': return webhookSms(options)
    case 'twilio': return twilioSms(options)
  }
}
