import { Webhook } from 'standardwebhooks'
import type { Config } from '../../config.js'
import { undelivered } from './connection.js'
import { SmsRefused, SmsUncertain, type SmsSender } from './port.js'

const tries = 2

/**
 * Posts each message to SMS_WEBHOOK_URL, signed after Standard Webhooks 1.0.0. A connection error or a 5xx is tried once
 * more with the same webhook-id; both tries together take SMS_TIMEOUT_MS at most. Redirects are not followed.
 */
export function webhookSms ({ smsWebhookUrl, smsWebhookSecret, smsTimeoutMs }: Config): SmsSender {
  const url = smsWebhookUrl as string
  const webhook = new Webhook(smsWebhookSecret as string)

  return async (message) => {
    const body = JSON.stringify(message)
    const timestamp = new Date()
    const signal = AbortSignal.timeout(smsTimeoutMs)
    let failure: SmsRefused | SmsUncertain | undefined
    // What one try left uncertain, no refusal of the next one settles.
    const failed = (error: SmsRefused | SmsUncertain) => failure instanceof SmsUncertain ? failure : error
    for (let attempt = 0; attempt < tries && !signal.aborted; attempt++) {
      try {
        const response = await fetch(url, {
          method: 'POST',
          body,
          signal,
          redirect: 'manual',
          headers: {
            'content-type': 'application/json',
            'webhook-id': message.id,
            'webhook-timestamp': String(Math.floor(timestamp.getTime() / 1000)),
            'webhook-signature': webhook.sign(message.id, timestamp, body)
          }
        })
        await response.body?.cancel()
        if (response.ok) return
        failure = failed(new SmsRefused(`the webhook answered ${response.status}`))
        if (response.status < 500) break
      } catch (cause) {
        failure = failed(undelivered('the webhook', cause))
      }
    }
    throw failure
  }
}
