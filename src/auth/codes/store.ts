/** Times are milliseconds since the epoch, by the clock of the service. */
export interface CodeLimits {
  ttlMs: number
  /** The cooldown: the shortest time between two sends of a live code. */
  resendMs: number
  sendsPerHour: number
  sendsPerDay: number
  /** Wrong guesses at one code. */
  maxAttempts: number
  /** Wrong guesses at one number, in the day that begins with the first. */
  guessesPerDay: number
}

/** A code expires this long after its first send, however often it is sent again. */
export const maxLifeMs = 600_000
/** If a resend would leave the live code less than this, or less than a shorter TTL, a new code replaces it. */
export const minLeftMs = 120_000
/** Sends to one number in a day. No login clears this count. */
export const sendsCeiling = 50
export const hourMs = 3_600_000
export const dayMs = 86_400_000

export interface Candidate {
  nonce: string
  digest: string
  /** The client group for which the pumping guard counts the send. Empty for a known number, which is not counted. */
  client?: string
}

export interface Issued {
  status: 'issued'
  /** The nonce of the code to send: of the candidate, or of the live code. */
  nonce: string
  expiresAt: number
  /** The state before the send, for cancel. Only the store reads it. */
  undo: unknown
}

export interface Refused {
  status: 'too_soon' | 'too_many'
  retryAfterMs: number
}

export type Redeemed =
  /** `client` is the client group of the last send of the code; `undo` is for restore. */
  | { status: 'right', undo: unknown, client: string }
  /** A wrong guess at a test number without a live code has no attemptsRemaining. */
  | { status: 'wrong', attemptsRemaining?: number }
  /** Nothing was compared. */
  | { status: 'none' }

/**
 * Live codes and counts, by the key of a number. Each call is atomic and, in Redis, one round trip. `now` is in
 * milliseconds since the epoch. Throws unavailable when the store does not respond.
 */
export interface CodeStore {
  /** Whether the store keeps anything about a number. */
  has (key: string): Promise<boolean>
  /**
   * Counts a send and returns the code to send: the live code again, or the candidate. The cooldown ends with its code,
   * so too_soon means that a live code is on its way. Sends to a test number have no caps and no cooldown. After the
   * last wrong guess of the day every send is refused.
   */
  issue (key: string, candidate: Candidate, now: number, isTest?: boolean): Promise<Issued | Refused>
  /**
   * Undoes an `issue` whose message was refused; not for test numbers. An earlier code works again, and later sends
   * stay as they are.
   */
  cancel (key: string, issued: Issued): Promise<void>
  /**
   * Compares a guess. A right guess consumes the code and clears the caps. A wrong guess costs an attempt of the code
   * and a guess of the day; after the last of either, no guess can redeem the code. `testDigest` is the digest of the
   * fixed code of a test number, where every wrong guess counts, also without a live code.
   */
  redeem (key: string, digest: string, now: number, testDigest?: string): Promise<Redeemed>
  /** Undoes a `redeem` whose login failed, unless a newer code exists. */
  restore (key: string, undo: unknown): Promise<void>
  /**
   * Whether a login of this number counts as verified: once in 24 hours, also of parallel logins. An account that is
   * deleted and created again does not count again, because deleteCode does not clear this.
   */
  countVerified (key: string, now: number): Promise<boolean>
  /** Removes the live code and its cooldown. The counts stay. */
  deleteCode (key: string): Promise<void>
}
