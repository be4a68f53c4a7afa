import type { IpLimit } from '../limits/by-ip.js'
import type { UserLimit } from '../limits/by-user.js'
import type { EnvReader } from './env.js'

/** Requests and wrong guesses of one client IP. */
export function readIpLimit (env: EnvReader): IpLimit & { guessesPerHour: number } {
  return {
    max: env.integer('RATE_LIMIT_IP_MAX', 30, 1, 1_000_000),
    windowSeconds: env.integer('RATE_LIMIT_IP_WINDOW_SECONDS', 60, 1, 86_400),
    guessesPerHour: env.integer('RATE_LIMIT_IP_GUESSES_PER_HOUR', 60, 1, 1_000_000)
  }
}

export function readUserLimit (env: EnvReader): UserLimit {
  return {
    max: env.integer('RATE_LIMIT_USER_MAX', 300, 1, 1_000_000),
    windowSeconds: env.integer('RATE_LIMIT_USER_WINDOW_SECONDS', 60, 1, 86_400)
  }
}
