import { Webhook } from 'standardwebhooks'
import type { Config } from '../../config.js'
import { SmsRefused, SmsUncertain, type SmsSender } from './port.js'

const tries = 2

/** Errors of a connection that never stood: nothing was handed over. */
const notConnected = new Set(['ECONNREFUSED', 'ENOTFOUND', 'EAI_AGAIN', 'EHOSTUNREACH', 'ENETUNREACH', 'UND_ERR_CONNECT_TIMEOUT'])

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
        const { code } = ((cause as Error).cause ?? {}) as NodeJS.ErrnoException
        failure = failed(notConnected.has(code ?? '')
          ? new SmsRefused(`the webhook cannot be reached: ${code}`)
          : new SmsUncertain('the webhook did not answer', { cause }))
      }
    }
    throw failure
  }
}
