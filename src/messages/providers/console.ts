import type { SmsSender } from '../port.js'

/** Shows messages on standard output instead of sending them; for development. */
export const consoleSms = (): SmsSender => async ({ to, text }) => {
  process.stdout.write(`\n  SMS to ${to}\n${text.replace(/^/gm, '  | ')}\n\n`)
}
