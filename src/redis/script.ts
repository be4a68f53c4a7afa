import { problem } from '../http/problems.js'
import type { Redis } from './connect.js'

/** Waits for a reply of Redis; any failure of it means 503. The cause stays for the log. */
export async function answerOf<T> (reply: Promise<T>): Promise<T> {
  try {
    return await reply
  } catch (cause) {
    throw problem('unavailable', { cause })
  }
}

/**
 * Registers a script of one key, which is one round trip and one slot of a cluster. Returns the function that runs it and
 * throws unavailable when Redis does not respond.
 */
export function redisScript<Reply> (redis: Redis, name: string, lua: string) {
  type Command = (key: string, ...args: Array<string | number>) => Promise<Reply>
  redis.defineCommand(name, { numberOfKeys: 1, lua })
  const commands = redis as unknown as Record<string, Command>
  const run: Command = (key, ...args) => answerOf((commands[name] as Command)(key, ...args))
  return run
}
