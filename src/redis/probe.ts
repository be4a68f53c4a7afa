import { Cluster } from 'ioredis'
import type { Redis } from './connect.js'

/**
 * Runs every command that the service uses on a key of its own. It fails if Redis is full, cannot save, is a replica or
 * denies a right. It leaves no key behind.
 */
const everyCommand = `
local key, ms = KEYS[1], 10000
redis.call('SET', key, 1, 'PX', ms)
redis.call('GET', key)
redis.call('INCR', key)
redis.call('EXISTS', key)
redis.call('DEL', key)
redis.call('HSET', key, 'a', 1)
redis.call('PEXPIRE', key, ms)
redis.call('EXPIRE', key, ms / 1000)
redis.call('PTTL', key)
redis.call('HGET', key, 'a')
redis.call('HMGET', key, 'a')
redis.call('HGETALL', key)
redis.call('HINCRBY', key, 'a', 1)
redis.call('HDEL', key, 'a')
`

/** Keys for each master of a Cluster: enough that practically every master has one, wherever the slots are. */
const keysPerMaster = 8

/** Returns the function that runs every command, on every master of a Cluster. It rejects with the first error. */
export function commandProbe (redis: Redis, current: () => Redis) {
  redis.defineCommand('probeCommands', { numberOfKeys: 1, lua: everyCommand })
  const probe = redis as Redis & { probeCommands: (key: string) => Promise<null> }
  return async () => {
    const connection = current()
    const count = connection instanceof Cluster ? connection.nodes('master').length * keysPerMaster : 1
    await Promise.all(Array.from({ length: Math.max(count, 1) }, (_, index) => probe.probeCommands(`probe:${index}`)))
  }
}

/** A field of INFO; undefined if the server does not report it. */
export const infoField = (info: string, name: string) => new RegExp(`^${name}:(.*?)\\r?$`, 'm').exec(info)?.[1]
