import type { ConnectionOptions } from 'node:tls'
import { Cluster, Redis as Server } from 'ioredis'
import type { RedisTarget } from './url.js'

export type Redis = Server | Cluster

const connectTimeoutMs = 1000
const commandTimeoutMs = 1000
/** A connection whose reply is overdue for so long is closed: its host may be dead. */
const socketTimeoutMs = 1500
/** How often a node of a Cluster is asked for the slots of all nodes, so that a failover is noticed. */
const slotsRefreshMs = 1000
const reconnectMs = 1000

const retryStrategy = (attempt: number) => Math.min(attempt * 50, 500)

/**
 * Reconnects after READONLY: a master that became a replica keeps its connections. At most once a second, as the server
 * may stay a replica.
 */
function leaveReplica () {
  let leftAt = -Infinity
  return ({ message }: Error) => {
    if (!message.includes('READONLY') || performance.now() - leftAt < reconnectMs) return false
    leftAt = performance.now()
    return true
  }
}

/** Bounds for each connection. A command fails at once while Redis is unavailable, and is never sent twice. */
const bounds = () => ({
  connectTimeout: connectTimeoutMs,
  commandTimeout: commandTimeoutMs,
  socketTimeout: socketTimeoutMs,
  autoResendUnfulfilledCommands: false,
  maxRetriesPerRequest: 0,
  // CLIENT SETINFO would need an ACL right of its own.
  disableClientInfo: true,
  reconnectOnError: leaveReplica()
})

interface RedisOptions {
  /** The beginning of every key. ioredis puts it before the keys of commands and scripts. */
  keyPrefix: string
  /** Used where the URL asks for TLS. */
  tls: ConnectionOptions
}

/** Where Redis is and how to connect to it. */
export interface RedisConnection extends RedisOptions {
  target: RedisTarget
}

/** Opens a connection to one server, to a Cluster, or to the master that the Sentinels name. */
export function connect (target: RedisTarget, { keyPrefix, tls }: RedisOptions): Redis {
  if ('server' in target) {
    return new Server(target.server, {
      ...bounds(),
      keyPrefix,
      enableOfflineQueue: false,
      retryStrategy,
      ...(target.server.startsWith('rediss:') && { tls })
    })
  }
  if ('nodes' in target) {
    const { protocol, username, password } = new URL(target.nodes[0] as string)
    return new Cluster(target.nodes, {
      keyPrefix,
      enableOfflineQueue: false,
      clusterRetryStrategy: retryStrategy,
      slotsRefreshTimeout: connectTimeoutMs,
      slotsRefreshInterval: slotsRefreshMs,
      // Zero: a command without a reply on a lost connection may have run.
      retryDelayOnFailover: 0,
      // Keep host names: a certificate does not match an IP.
      dnsLookup: (address, callback) => callback(null, address),
      redisOptions: {
        ...bounds(),
        username: decodeURIComponent(username),
        password: decodeURIComponent(password),
        ...(protocol === 'rediss:' && { tls })
      }
    })
  }
  const { sentinels, name, username, password, isTls } = target
  return new Server({
    ...bounds(),
    keyPrefix,
    enableOfflineQueue: false,
    retryStrategy,
    sentinels,
    name,
    sentinelCommandTimeout: commandTimeoutMs,
    sentinelRetryStrategy: retryStrategy,
    username,
    password,
    sentinelUsername: username,
    sentinelPassword: password,
    ...(isTls && { tls, sentinelTLS: tls, enableTLSForSentinelMode: true })
  })
}

/** A client that can move from one connection to another, together with the scripts that were defined on it. */
export function movable (first: Redis) {
  let current = first
  const scripts: Array<Parameters<Server['defineCommand']>> = []
  const defineCommand: Server['defineCommand'] = (...script) => {
    scripts.push(script)
    current.defineCommand(...script)
  }
  const client = new Proxy(first, {
    get (_first, name) {
      if (name === 'defineCommand') return defineCommand
      const value: unknown = Reflect.get(current, name)
      return typeof value === 'function' ? value.bind(current) as unknown : value
    }
  })
  return {
    client,
    current: () => current,
    moveTo (next: Redis) {
      for (const script of scripts) next.defineCommand(...script)
      current.disconnect()
      current = next
    }
  }
}
