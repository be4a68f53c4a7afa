/** Why Redis is unavailable, as a label of the metric. */
export const unavailableReasons = ['unreachable', 'oom', 'readonly', 'misconf', 'noperm', 'refused'] as const
type UnavailableReason = typeof unavailableReasons[number]

/** What Redis writes when it refuses a command, by itself or out of a script of any version. */
const refusals: Array<[pattern: RegExp, reason: UnavailableReason, what: string]> = [
  [/\bOOM\b/, 'oom', 'refuses writes, its memory is full (OOM): raise maxmemory'],
  [/\bREADONLY\b/, 'readonly', 'refuses writes, it is a replica (READONLY): point REDIS_URL to the master'],
  [/\bMISCONF\b/, 'misconf', 'refuses writes, it cannot save its data (MISCONF): free its disk'],
  [/\bNOPERM\b|ACL failure|can't run this command|can't access/, 'noperm',
    'refuses commands, its user lacks rights (ACL): see the README']
]

/** Whether the error is a reply of Redis, not the lack of one. */
const isReply = (error: unknown) => error instanceof Error && error.name === 'ReplyError'

/** The reason for which Redis is unavailable, by an error of a command. */
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

/** Whether Redis lacks the database whose number REDIS_URL has. */
export const isWrongDatabase = (error: unknown) =>
  isReply(error) && /DB index|SELECT is not allowed/.test((error as Error).message)
