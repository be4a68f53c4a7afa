/** Times are milliseconds since the epoch, by the clock of the service. */
export interface CodeLimits {
  ttlMs: number
  /** Shortest time between two sends. */
  resendMs: number
  sendsPerHour: number
  sendsPerDay: number
  maxAttempts: number
}

/** A code dies this long after it was first sent, however often it is sent again. */
export const maxLifeMs = 600_000
/** A resend that would leave the code less than this (or than a whole shorter TTL) makes a new code. */
export const minLeftMs = 120_000
/** Sends to one number in a day; nothing clears this count. */
export const sendsCeiling = 50
/** Wrong guesses at a test number in a day; nothing clears this count. */
export const guessesCeiling = 50
export const hourMs = 3_600_000
export const dayMs = 86_400_000

export interface Issued {
  status: 'issued'
  /** Of the code that goes out: the candidate's, or that of the code which is still alive. */
  nonce: string
  expiresAt: number
  /** What takeBack needs to know of the state before; only the store reads it. */
  undo: unknown
}

export interface Refused {
  status: 'too_soon' | 'too_many'
  retryAfterMs: number
}

export type Redeemed =
  | { status: 'right', undo: unknown }
  | { status: 'wrong', attemptsRemaining: number }
  | { status: 'none' }

/**
 * Where pending codes and the counts of sends live. `key` stands for a number; each call is atomic and, in Redis, one
 * round trip. Throws unavailable when the store does not answer.
 */
export interface CodeStore {
  /**
   * Counts a send and tells which code goes out: a live one again, or the candidate. At a test number no send counts or has
   * to wait, but after too many wrong guesses in the day.
   */
  issue (key: string, candidate: { nonce: string, digest: string }, now: number, isTest?: boolean): Promise<Issued | Refused>
  /** Undoes an `issue` whose message was refused, no test number's; a code sent before works on, later sends are left alone. */
  takeBack (key: string, issued: Issued): Promise<void>
  /**
   * Compares a guess: the right one consumes the code and clears the caps, a wrong one costs an attempt. `testDigest` is that of
   * the code of a test number, where every wrong guess counts toward its day, whether a code is pending or not.
   */
  redeem (key: string, digest: string, now: number, testDigest?: string): Promise<Redeemed>
  /** Undoes a `redeem` whose login failed, unless a newer code has come. */
  putBack (key: string, undo: unknown): Promise<void>
  /** Removes the pending code; the counts stay. */
  forget (key: string): Promise<void>
}
