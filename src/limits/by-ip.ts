import rateLimit from '@fastify/rate-limit'
import type { FastifyInstance, FastifyReply, FastifyRequest } from 'fastify'
import fp from 'fastify-plugin'
import { addressGroup, clientAddress, trustedProxies, wideAddressGroup, wideFactor } from '../http/client-ip.js'
import { problem } from '../http/problems.js'
import { keyedDigest } from '../redis/keyed-digest.js'
import { secretPicker, type CodeSecrets } from '../redis/code-secrets.js'

declare module 'fastify' {
  interface FastifyInstance {
    /** An onRequest hook: counts a request against its client IP, before its body is read. */
    limitAddress: (request: FastifyRequest, reply: FastifyReply) => Promise<void>
  }
}

/** The beginning of the keys of the limiter. */
const nameSpace = 'address:'

interface Budget { max: number, remaining: number, ttlInSeconds: number, isExceeded: boolean }

/** Requests of one client IP. */
export interface IpLimit {
  max: number
  windowSeconds: number
}

interface Options extends IpLimit {
  secrets: CodeSecrets
  /** IPs and CIDR ranges of the gateways whose X-Forwarded-For is trusted. */
  trustProxy: string[]
}

/**
 * One budget per client IP, shared by every route with this hook and by all replicas through Redis. All clients of an IPv6 /48
 * have a second, larger one together.
 */
export default fp<Options>(async (app, { max: maxRequests, windowSeconds, secrets, trustProxy }) => {
  const { redis } = app
  const pickSecret = secretPicker(secrets, async (key) => redis?.exists(`${nameSpace}${key}`))
  /** Returns the function that counts a request in the budget of its group. */
  async function budgetOf (max: number, group: (address: string) => string) {
    let count!: ReturnType<FastifyInstance['createRateLimit']>
    // A scope each: the plugin makes its limiters children of one store, with keys of their own making.
    await app.register(async (scope) => {
      await scope.register(rateLimit, {
        global: false,
        max,
        timeWindow: windowSeconds * 1000,
        ...(redis && { redis, nameSpace }),
        async keyGenerator (request) {
          const keyOf = (secret: string) => keyedDigest(secret, 'address', group(clientAddress(request)))
          return keyOf(await pickSecret(keyOf))
        }
      })
      count = scope.createRateLimit()
    })
    // Nothing is on an allow list, so a request is always counted.
    return async (request: FastifyRequest) => await count(request) as Budget
  }
  const countAddress = await budgetOf(maxRequests, addressGroup)
  const countWide = await budgetOf(maxRequests * wideFactor, (address) => wideAddressGroup(address) as string)

  /** Counts a request; returns the budget with fewer requests left. Throws unavailable when Redis does not respond. */
  async function tightestBudget (request: FastifyRequest): Promise<Budget> {
    try {
      const budget = await countAddress(request)
      // One after the other: what a /64 is refused must not use up the budget of its neighbours.
      if (budget.isExceeded || !wideAddressGroup(clientAddress(request))) return budget
      const wide = await countWide(request)
      return wide.isExceeded || wide.remaining < budget.remaining ? wide : budget
    } catch (cause) {
      // The limit cannot be kept without its store: refuse.
      throw problem('unavailable', { cause })
    }
  }

  const isTrusted = trustedProxies(trustProxy)
  let isTold = false
  function tellUntrusted ({ headers, socket, log }: FastifyRequest) {
    if (isTold || headers['x-forwarded-for'] === undefined || isTrusted(String(socket.remoteAddress), 0)) return
    isTold = true
    log.warn({ event: 'untrusted_proxy', peer: socket.remoteAddress },
      'X-Forwarded-For came from a peer that TRUST_PROXY does not name: it is not believed')
  }

  app.decorate('limitAddress', async (request: FastifyRequest, reply: FastifyReply) => {
    tellUntrusted(request)
    const { max, remaining, ttlInSeconds, isExceeded } = await tightestBudget(request)
    reply.headers({ 'ratelimit-limit': max, 'ratelimit-remaining': remaining, 'ratelimit-reset': ttlInSeconds })
    if (!isExceeded) return
    app.audit(request, 'limit_hit', {}, { limit: 'address' })
    throw problem('rate_limited', { retryAfter: ttlInSeconds })
  })
}, { name: 'rate-limit', dependencies: ['redis', 'metrics'] })
