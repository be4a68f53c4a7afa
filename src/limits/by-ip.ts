import rateLimit from '@fastify/rate-limit'
import type { FastifyInstance, FastifyReply, FastifyRequest } from 'fastify'
import fp from 'fastify-plugin'
import { addressGroup, clientAddress, trustedProxies, wideAddressGroup, wideFactor } from '../http/client-ip.js'
import { Problem } from '../http/problems.js'
import { keyedDigest } from '../redis/keyed-digest.js'
import { secretPicker, type CodeSecrets } from '../redis/code-secrets.js'

declare module 'fastify' {
  interface FastifyInstance {
    /** An onRequest hook: counts a request against its client IP, before the body is read. */
    limitAddress: (request: FastifyRequest, reply: FastifyReply) => Promise<void>
  }
}

/** The prefix of the limiter's keys. */
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
 * One budget per client IP, shared by every route with this hook and, through Redis, by all replicas. All clients of an
 * IPv6 /48 also share a second, larger budget.
 */
export default fp<Options>(async (app, { max: maxRequests, windowSeconds, secrets, trustProxy }) => {
  const { redis } = app
  const pickSecret = secretPicker(secrets, async (key) => redis?.exists(`${nameSpace}${key}`))
  /** Returns a function that counts a request in the budget of its group. */
  async function budgetOf (max: number, group: (address: string) => string) {
    let count!: ReturnType<FastifyInstance['createRateLimit']>
    // A scope per budget: within a scope, the plugin derives all limiters from one store and adds to their keys.
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
    // Without an allow list, the limiter counts every request.
    return async (request: FastifyRequest) => await count(request) as Budget
  }
  const countAddress = await budgetOf(maxRequests, addressGroup)
  const countWide = await budgetOf(maxRequests * wideFactor, (address) => wideAddressGroup(address) as string)

  /** Counts a request. Returns the budget with fewer requests left. Throws unavailable when Redis does not respond. */
  async function tightestBudget (request: FastifyRequest): Promise<Budget> {
    try {
      const budget = await countAddress(request)
      // One after the other: requests that the /64 budget refuses must not use up the /48 budget of its neighbours.
      if (budget.isExceeded || !wideAddressGroup(clientAddress(request))) return budget
      const wide = await countWide(request)
      return wide.isExceeded || wide.remaining < budget.remaining ? wide : budget
    } catch (cause) {
      // Without its store the limit cannot be enforced, so the request is refused.
      throw new Problem('unavailable', { cause })
    }
  }

  const isTrusted = trustedProxies(trustProxy)
  let isWarned = false
  function warnOnce ({ headers, socket, log }: FastifyRequest) {
    if (isWarned || headers['x-forwarded-for'] === undefined || isTrusted(String(socket.remoteAddress), 0)) return
    isWarned = true
    log.warn({ event: 'untrusted_proxy', peer: socket.remoteAddress },
      'ignored X-Forwarded-For from an untrusted peer: if it is your gateway, add it to TRUST_PROXY')
  }

  app.decorate('limitAddress', async (request: FastifyRequest, reply: FastifyReply) => {
    warnOnce(request)
    const { max, remaining, ttlInSeconds, isExceeded } = await tightestBudget(request)
    reply.headers({ 'ratelimit-limit': max, 'ratelimit-remaining': remaining, 'ratelimit-reset': ttlInSeconds })
    if (!isExceeded) return
    app.audit(request, 'limit_hit', {}, { limit: 'address' })
    throw new Problem('rate_limited', { retryAfter: ttlInSeconds })
  })
}, { name: 'rate-limit', dependencies: ['redis', 'metrics'] })
