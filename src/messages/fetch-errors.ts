import { SmsRefused, SmsUncertain } from './port.js'

/** Errors of a connection that was never established. */
const codes = new Set([
  'ECONNREFUSED', 'ENOTFOUND', 'EAI_AGAIN', 'EHOSTUNREACH', 'ENETUNREACH', 'UND_ERR_CONNECT_TIMEOUT'
])

/** Returns the error code of a fetch that never had a connection, undefined for any other failure. */
export function whyUnreachable (error: unknown): string | undefined {
  const { code = '' } = ((error as Error).cause ?? {}) as NodeJS.ErrnoException
  return codes.has(code) ? code : undefined
}

/** Turns the error of a fetch into that of a sender: refused without a connection, otherwise uncertain. */
export function undelivered (provider: string, cause: unknown): SmsRefused | SmsUncertain {
  const code = whyUnreachable(cause)
  if (code) return new SmsRefused(`${provider} cannot be reached: ${code}`)
  return new SmsUncertain(`${provider} did not respond`, { cause })
}
