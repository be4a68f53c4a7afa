/** Times are milliseconds since the epoch, by the clock of the service. */
export interface CodeLimits {
  ttlMs: number
  /** The cooldown: shortest time between two sends of a live code. */
  resendMs: number
  sendsPerHour: number
  sendsPerDay: number
  /** Wrong guesses of one code. */
  maxAttempts: number
  /** Wrong guesses at a number, in the day that begins with the first. */
  guessesPerDay: number
}

/** A code dies this long after it was first sent, however often it is sent again. */
export const maxLifeMs = 600_000
/** A resend that would leave the code less than this (or than a whole shorter TTL) makes a new code. */
export const minLeftMs = 120_000
/** Sends to one number in a day. No login clears this count. */
export const sendsCeiling = 50
export const hourMs = 3_600_000
export const dayMs = 86_400_000

export interface Candidate {
  nonce: string
  digest: string
  /** Empty where the number is known, so that the send is not counted. */
  client?: string
}

export interface Issued {
  status: 'issued'
  /** Of the code that goes out: the candidate's, or that of the live code. */
  nonce: string
  expiresAt: number
  /** The state before, for cancel; only the store reads it. */
  undo: unknown
}

export interface Refused {
  status: 'too_soon' | 'too_many'
  retryAfterMs: number
}

export type Redeemed =
  /** `client` is that of the newest send of the code. */
  | { status: 'right', undo: unknown, client: string }
  /** Without attempts: a wrong guess at a test number that has no live code. */
  | { status: 'wrong', attemptsRemaining?: number }
  /** Nothing was compared. */
  | { status: 'none' }

/**
 * Live codes and the counts of a number. `key` stands for the number. Each call is atomic and, in Redis, one round trip.
 * Throws unavailable when the store does not respond.
 */
export interface CodeStore {
  /** Whether anything is kept of a number. */
  has (key: string): Promise<boolean>
  /**
   * Counts a send and returns the code that goes out: the live one again, or the candidate. The cooldown lasts as long as its
   * code, so too_soon means that a live code is on its way. Sends to a test number neither count nor wait. After the last
   * wrong guess of the day every send is refused. `client` is the client group for which the pumping guard counts the send.
   */
  issue (key: string, candidate: Candidate, now: number, isTest?: boolean): Promise<Issued | Refused>
  /** Undoes an `issue` whose message was refused, never a test number's. An earlier code works on; later sends stay as they are. */
  cancel (key: string, issued: Issued): Promise<void>
  /**
   * Compares a guess. A right one consumes the code and clears the caps. A wrong one costs an attempt of the code and a guess
   * of the day; after the last of either the code is dead. `testDigest` is the digest of a test number's code: there each
   * wrong guess counts, with a live code or without.
   */
  redeem (key: string, digest: string, now: number, testDigest?: string): Promise<Redeemed>
  /** Undoes a `redeem` whose login failed, unless a newer code exists. */
  restore (key: string, undo: unknown): Promise<void>
  /**
   * Whether a login of this number counts as verified: once in 24 hours. Of parallel logins one counts. `deleteCode` leaves it
   * alone: an account that is deleted and made anew does not count again.
   */
  countVerified (key: string, now: number): Promise<boolean>
  /** Removes the live code and its cooldown. The counts stay. */
  deleteCode (key: string): Promise<void>
}
