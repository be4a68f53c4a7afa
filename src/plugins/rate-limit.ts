import rateLimit from '@fastify/rate-limit'
import type { FastifyReply, FastifyRequest } from 'fastify'
import fp from 'fastify-plugin'
import { addressGroup, clientAddress, trustedProxies } from '../client-address.js'
import type { Config } from '../config.js'
import { isProblem, problem } from '../errors.js'
import { keyedDigest } from '../keyed-digest.js'

declare module 'fastify' {
  interface FastifyInstance {
    /** An onRequest hook: counts a request against its client address, before its body is read. */
    limitAddress: (request: FastifyRequest, reply: FastifyReply) => Promise<void>
  }
}

/** One budget for each client address, shared by every route with the hook and by all replicas through Redis. */
export default fp<Config>(async (app, { rateLimitIpMax, rateLimitIpWindowSeconds, codeSecret, trustProxy }) => {
  await app.register(rateLimit, {
    global: false,
    max: rateLimitIpMax,
    timeWindow: rateLimitIpWindowSeconds * 1000,
    enableDraftSpec: true,
    ...(app.redis && { redis: app.redis, nameSpace: 'address:' }),
    keyGenerator: (request) => keyedDigest(codeSecret, 'address', addressGroup(clientAddress(request))),
    onExceeded: (request) => { app.audit(request, 'limit_hit', {}, { limit: 'address' }) },
    errorResponseBuilder: (_request, { ttl }) => problem('rate_limited', { retryAfter: Math.ceil(ttl / 1000) })
  })
  const limit = app.rateLimit()

  const isTrusted = trustedProxies(trustProxy)
  let isTold = false
  function tellUntrusted ({ headers, socket, log }: FastifyRequest) {
    if (isTold || headers['x-forwarded-for'] === undefined || isTrusted(String(socket.remoteAddress))) return
    isTold = true
    log.warn({ event: 'untrusted_proxy', peer: socket.remoteAddress },
      'X-Forwarded-For came from a peer that TRUST_PROXY does not name: it is not believed')
  }

  app.decorate('limitAddress', async (request: FastifyRequest, reply: FastifyReply) => {
    tellUntrusted(request)
    try {
      await limit.call(app, request, reply)
    } catch (error) {
      // Without its store the limit cannot be kept: never open.
      throw isProblem(error) ? error : problem('unavailable', { cause: error })
    }
  })
}, { name: 'rate-limit', dependencies: ['redis', 'metrics'] })
