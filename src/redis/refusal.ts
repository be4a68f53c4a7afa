/** Why Redis is unavailable, as a label of the metric. */
export const unavailableReasons = ['unreachable', 'oom', 'readonly', 'misconf', 'noperm', 'refused'] as const
type UnavailableReason = typeof unavailableReasons[number]

/** The error texts with which Redis of any version refuses a command, sent directly or by a script. */
const refusals: Array<[pattern: RegExp, reason: UnavailableReason, what: string]> = [
  [/\bOOM\b/, 'oom', 'refuses writes, its memory is full (OOM): raise maxmemory'],
  [/\bREADONLY\b/, 'readonly', 'refuses writes, it is a replica (READONLY): point REDIS_URL to the master'],
  [/\bMISCONF\b/, 'misconf', 'refuses writes, it cannot save its data (MISCONF): free its disk'],
  [/\bNOPERM\b|ACL failure|can't run this command|can't access/, 'noperm',
    'refuses commands, its user lacks rights (ACL): see docs/deployment.md']
]

/** Whether the error is a reply from Redis, as opposed to a missing reply. */
const isReply = (error: unknown) => error instanceof Error && error.name === 'ReplyError'

/** The reason why Redis is unavailable, from the error of a command. */
export function unavailableReason (error: unknown): UnavailableReason {
  if (!isReply(error)) return 'unreachable'
  return refusals.find(([pattern]) => pattern.test((error as Error).message))?.[1] ?? 'refused'
}

/** What is wrong with Redis and what to do, as the end of a sentence that begins with "Redis". */
export function describeRedis (error: unknown): string {
  const reason = unavailableReason(error)
  if (reason === 'unreachable') return 'does not respond'
  return refusals.find(([, known]) => known === reason)?.[2] ?? 'refuses commands'
}

/** Whether Redis lacks the database that REDIS_URL names. */
export const isWrongDatabase = (error: unknown) =>
  isReply(error) && /DB index|SELECT is not allowed/.test((error as Error).message)
