/** Where Redis is: one server, the nodes of a Cluster, or a master that Sentinels know by name. */
export type RedisTarget = { server: string } | { nodes: string[] } | {
  sentinels: Array<{ host: string, port: number }>
  name: string
  /** Empty if there is none. */
  username: string
  password: string
  isTls: boolean
}

const sentinelPort = 26_379
const sentinelUrl = new RegExp([
  /^redis\+sentinel:\/\/(?:(?<username>[^:@/]*):(?<password>[^:@/]*)@)?/,
  /(?<hosts>[^@/?#]+)\/(?<name>[\w.-]+)(?:\?tls=(?<tls>true|false))?$/
].map(({ source }) => source).join(''))

const isServer = (url: string) => /^rediss?:\/\//.test(url) && URL.canParse(url) && new URL(url).hostname !== ''

/**
 * Reads a REDIS_URL: redis:// or rediss://, several of them joined by commas, or
 * redis+sentinel://[user:password@]host:port,host:port/name[?tls=true]. Returns undefined for anything else.
 */
export function parseRedisUrl (value: string): RedisTarget | undefined {
  const urls = value.split(',')
  if (urls.every(isServer)) return urls.length === 1 ? { server: value } : { nodes: urls }

  const { username = '', password = '', hosts = '', name = '', tls } = sentinelUrl.exec(value)?.groups ?? {}
  const addresses = hosts.split(',').map((host) => `redis://${host}`)
  if (name === '' || !addresses.every(isServer)) return undefined
  try {
    return {
      sentinels: addresses.map((address) => new URL(address))
        .map(({ hostname, port }) => ({ host: hostname, port: Number(port) || sentinelPort })),
      name,
      username: decodeURIComponent(username),
      password: decodeURIComponent(password),
      isTls: tls === 'true'
    }
  } catch {
    // The percent-encoding is malformed.
    return undefined
  }
}
