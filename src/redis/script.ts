import { Problem } from '../http/problems.js'
import type { Redis } from './connect.js'

/** Returns a reply from Redis. Throws `unavailable` if there is none, with the cause for the log. */
export async function replyOf<T> (reply: Promise<T>): Promise<T> {
  try {
    return await reply
  } catch (cause) {
    throw new Problem('unavailable', { cause })
  }
}

/**
 * Registers a script with one key, which takes one round trip and one slot of a Cluster. Returns the function that runs
 * the script. It throws `unavailable` if Redis does not respond.
 */
export function redisScript<Reply> (redis: Redis, name: string, lua: string) {
  type Command = (key: string, ...args: Array<string | number>) => Promise<Reply>
  redis.defineCommand(name, { numberOfKeys: 1, lua })
  const run: Command = (key, ...args) => replyOf((Reflect.get(redis, name) as Command).call(redis, key, ...args))
  return run
}
