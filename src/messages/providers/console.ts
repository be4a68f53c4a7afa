import type { SmsSender } from '../port.js'

/** For development: shows messages on standard output instead of sending them. */
export const consoleSms = (): SmsSender => async ({ to, text }) => {
  process.stdout.write(`\n  SMS to ${to}\n${text.replace(/^/gm, '  | ')}\n\n`)
}
