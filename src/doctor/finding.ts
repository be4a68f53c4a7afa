export type Level = 'ok' | 'warning' | 'problem'

/** One line of the report: what was checked, the result, and what to do. */
export interface Finding {
  level: Level
  subject: string
  text: string
}

export const ok = (subject: string, text: string): Finding => ({ level: 'ok', subject, text })
export const warning = (subject: string, text: string): Finding => ({ level: 'warning', subject, text })
export const problem = (subject: string, text: string): Finding => ({ level: 'problem', subject, text })

/** The message of a store's error, in one line. The error of a host name with several IPs has a code and no message. */
export function errorText (error: unknown): string {
  const { code, message, cause } = error as NodeJS.ErrnoException
  // Drizzle puts SQL and parameters into its message.
  if (cause instanceof Error) return errorText(cause)
  return (message || String(code)).replace(/\n.*/s, '')
}
