import { undelivered, whyUnreachable } from '../fetch-errors.js'
import { SmsOptedOut, SmsRefused, SmsUnsupported, type SmsSender } from '../port.js'

/**
 * Codes of Twilio's error dictionary for numbers that no SMS reaches: invalid, unreachable, short code, not a mobile
 * number, landline.
 */
const badNumberCodes = new Set([21211, 21214, 21265, 21614, 21635])
/** The person texted STOP to the sender. */
const optedOutCode = 21610

export interface TwilioOptions {
  accountSid: string
  authToken: string
  /** A number or name, or a messaging service that chooses one. */
  sender: { from: string } | { messagingServiceSid: string }
  timeoutMs: number
}

interface Request {
  method: string
  uri: string
  username: string
  password: string
  headers: Record<string, string>
  data: Record<string, string>
}

/**
 * The HTTP client of the package, instead of its own one, which has no timeout for a whole request and reads
 * environment variables. Does not follow redirects. Twilio has no idempotency key, so a second POST follows only if the
 * first one had no connection.
 */
const httpClient = (timeoutMs: number, fetch: typeof globalThis.fetch) => ({
  async request ({ method, uri, username, password, headers, data }: Request) {
    const signal = AbortSignal.timeout(timeoutMs)
    const authorization = `Basic ${Buffer.from(`${username}:${password}`).toString('base64')}`
    const send = () => fetch(uri, {
      method,
      headers: { ...headers, authorization },
      body: new URLSearchParams(data),
      redirect: 'manual',
      signal
    })
    const response = await send().catch((error: unknown) => {
      if (whyUnreachable(error)) return send()
      throw error
    })
    if (!response.ok) return { statusCode: response.status, body: await response.text().catch(() => '') }
    // Twilio accepted the message, so the rest of the response does not matter.
    await response.body?.cancel()
    return { statusCode: response.status, body: {} }
  }
})

/**
 * Sends messages through Twilio's Messages API, each within SMS_TIMEOUT_MS. Only this function loads the package,
 * because it is large. Tests replace `fetch`.
 */
export function twilioSms (options: TwilioOptions, fetch: typeof globalThis.fetch = globalThis.fetch): SmsSender {
  const { accountSid, authToken, sender, timeoutMs } = options
  const loading = import('twilio').then(({ default: twilio }) => twilio(accountSid, authToken, {
    // Not constructed: its constructor reads environment variables.
    httpClient: Object.assign(Object.create(twilio.RequestClient.prototype), httpClient(timeoutMs, fetch)),
    // Without these, the package reads them from the environment.
    edge: '',
    region: ''
  }))

  return async ({ to, text }) => {
    const client = await loading
    try {
      await client.messages.create({ to, body: text, ...sender })
    } catch (cause) {
      const { status, code } = cause as { status?: number, code?: number }
      // The message of the package's error contains the number, so it is replaced.
      if (status !== undefined) {
        const reason = `Twilio responded ${status}, error ${Number(code)}`
        if (Number(code) === optedOutCode) throw new SmsOptedOut(reason)
        throw badNumberCodes.has(Number(code)) ? new SmsUnsupported(reason) : new SmsRefused(reason)
      }
      throw undelivered('Twilio', cause)
    }
  }
}
