import type { Language, MarketId } from '../phone/markets.js'

export interface SmsMessage {
  /** The same for every try of a message. */
  id: string
  /** E.164. */
  to: string
  text: string
  market: MarketId
  language: Language
}

export interface SmsContext {
  /** Of the request that the message belongs to (W3C Trace Context). */
  traceparent?: string | undefined
}

/** Hands one message to a provider. Throws SmsRefused, SmsUnsupported, SmsOptedOut or SmsUncertain. */
export type SmsSender = (message: SmsMessage, context?: SmsContext) => Promise<void>

/** The provider did not take the message: it will not arrive. */
export class SmsRefused extends Error {}

/** The provider did not take the message, because no SMS reaches the number. */
export class SmsUnsupported extends SmsRefused {}

/** The provider did not take the message, because the person has opted out of messages. */
export class SmsOptedOut extends SmsRefused {}

/** The provider did not respond, or not in time: the message may still arrive. */
export class SmsUncertain extends Error {}
