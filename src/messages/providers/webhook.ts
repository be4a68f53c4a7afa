import { Webhook } from 'standardwebhooks'
import { undelivered } from '../fetch-errors.js'
import { SmsOptedOut, SmsRefused, SmsUncertain, SmsUnsupported, type SmsSender } from '../port.js'

export interface WebhookOptions {
  url: string
  /** `whsec_` and 24 to 64 bytes in base64. */
  secret: string
  timeoutMs: number
}

const tries = 2

/** Most bytes of a refusal that are read. */
const maxRefusalBytes = 4096

/** The error for a response that refuses a message. A 422 with a reason refuses the number (CONTRACT, section 8). */
async function refusal (response: Response): Promise<SmsRefused> {
  const text = `the webhook responded ${response.status}`
  const reason = response.status === 422 ? await reasonOf(response).catch(() => undefined) : undefined
  if (reason === 'opted_out') return new SmsOptedOut(text)
  return reason === 'unsupported' ? new SmsUnsupported(text) : new SmsRefused(text)
}

/** The member `reason` of a JSON response. Throws if the body is not JSON or too long. */
async function reasonOf ({ body }: Response): Promise<unknown> {
  const chunks: Uint8Array[] = []
  let bytes = 0
  for await (const chunk of body as NonNullable<typeof body>) {
    chunks.push(chunk)
    bytes += chunk.length
    if (bytes > maxRefusalBytes) throw new Error('too long')
  }
  return (JSON.parse(Buffer.concat(chunks).toString()) as { reason?: unknown }).reason
}

/**
 * Posts each message to SMS_WEBHOOK_URL, signed after Standard Webhooks 1.0.0. Tries once more after a connection error
 * or a 5xx, with the same webhook-id and within SMS_TIMEOUT_MS in all. Does not follow redirects.
 */
export function webhookSms ({ url, secret, timeoutMs }: WebhookOptions): SmsSender {
  const webhook = new Webhook(secret)

  return async (message, { traceparent } = {}) => {
    const body = JSON.stringify(message)
    const timestamp = new Date()
    const signal = AbortSignal.timeout(timeoutMs)
    let failure: SmsRefused | SmsUncertain | undefined
    // If the first try is uncertain, its message may arrive: a refusal of the second one does not change that.
    const combined = (error: SmsRefused | SmsUncertain) => failure instanceof SmsUncertain ? failure : error
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
            'webhook-signature': webhook.sign(message.id, timestamp, body),
            ...(traceparent !== undefined && { traceparent })
          }
        })
        const refused = response.ok ? undefined : await refusal(response)
        // The status alone is the outcome: the rest of the body may fail.
        await response.body?.cancel().catch(() => undefined)
        if (!refused) return
        failure = combined(refused)
        if (response.status < 500) break
      } catch (cause) {
        failure = combined(undelivered('the webhook', cause))
      }
    }
    throw failure
  }
}
