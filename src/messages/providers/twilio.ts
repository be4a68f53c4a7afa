import type { ClientOpts } from 'twilio'
import { undelivered, whyUnreachable } from '../fetch-errors.js'
import { SmsOptedOut, SmsRefused, SmsUnsupported, type SmsSender } from '../port.js'

/** Codes of Twilio's error dictionary for numbers that no SMS reaches: invalid, unreachable, a short code, no mobile, a landline. */
const badNumberCodes = new Set([21211, 21214, 21265, 21614, 21635])
/** The person has texted STOP to the sender. */
const optedOutCode = 21610

export interface TwilioOptions {
  accountSid: string
  authToken: string
  /** A number or name, or a service that chooses one. */
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
 * What the package sends its requests with, in place of its own client, which knows no limit for the whole of a request and
 * reads variables of the environment. Redirects are not followed. Twilio knows no key that makes a second POST harmless:
 * it is tried once more only where the first one found no connection.
 */
const httpClient = (timeoutMs: number, fetch: typeof globalThis.fetch) => ({
  async request ({ method, uri, username, password, headers, data }: Request) {
    const signal = AbortSignal.timeout(timeoutMs)
    const authorization = `Basic ${Buffer.from(`${username}:${password}`).toString('base64')}`
    const send = () => fetch(uri, { method, headers: { ...headers, authorization }, body: new URLSearchParams(data), redirect: 'manual', signal })
    const response = await send().catch((error: unknown) => {
      if (whyUnreachable(error)) return send()
      throw error
    })
    if (!response.ok) return { statusCode: response.status, body: await response.text().catch(() => '') }
    // Accepted, whatever follows.
    await response.body?.cancel()
    return { statusCode: response.status, body: {} }
  }
})

/**
 * Hands messages to Twilio's Messages API, in SMS_TIMEOUT_MS at most. The package is loaded here alone: it is large.
 * `fetch` is there for tests.
 */
export function twilioSms (options: TwilioOptions, fetch: typeof globalThis.fetch = globalThis.fetch): SmsSender {
  const { accountSid, authToken, sender, timeoutMs } = options
  const loading = import('twilio').then(({ default: twilio }) => twilio(accountSid, authToken, {
    httpClient: httpClient(timeoutMs, fetch) as unknown as NonNullable<ClientOpts['httpClient']>,
    // Else it looks for them in the environment.
    edge: '',
    region: ''
  }))

  return async ({ to, text }) => {
    const client = await loading
    try {
      await client.messages.create({ to, body: text, ...sender })
    } catch (cause) {
      const { status, code } = cause as { status?: number, code?: number }
      // The message of such an error quotes the number.
      if (status !== undefined) {
        const reason = `Twilio answered ${status}, error ${Number(code)}`
        if (Number(code) === optedOutCode) throw new SmsOptedOut(reason)
        throw badNumberCodes.has(Number(code)) ? new SmsUnsupported(reason) : new SmsRefused(reason)
      }
      throw undelivered('Twilio', cause)
    }
  }
}
