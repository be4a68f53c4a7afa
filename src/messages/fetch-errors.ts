import { SmsRefused, SmsUncertain } from './port.js'

/** Errors of a connection that never stood. */
const codes = new Set(['ECONNREFUSED', 'ENOTFOUND', 'EAI_AGAIN', 'EHOSTUNREACH', 'ENETUNREACH', 'UND_ERR_CONNECT_TIMEOUT'])

/** Why a fetch found nobody to hand anything over to, by its error code; undefined where it failed in another way. */
export function whyUnreachable (error: unknown): string | undefined {
  const { code = '' } = ((error as Error).cause ?? {}) as NodeJS.ErrnoException
  return codes.has(code) ? code : undefined
}

/** A failed fetch as the error of a sender: nobody was there to take the message, or it may still arrive. */
export function undelivered (provider: string, cause: unknown): SmsRefused | SmsUncertain {
  const unreachable = whyUnreachable(cause)
  return unreachable ? new SmsRefused(`${provider} cannot be reached: ${unreachable}`) : new SmsUncertain(`${provider} did not answer`, { cause })
}
