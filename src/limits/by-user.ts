import type { Socket } from 'node:net'
import rateLimit from '@fastify/rate-limit'
import type { FastifyInstance, FastifyReply, FastifyRequest } from 'fastify'
import fp from 'fastify-plugin'
import { Problem } from '../http/problems.js'

declare module 'fastify' {
  interface FastifyInstance {
    /** An onRequest hook after `authenticate`: limits the requests of a user in flight and the writes per window. */
    limitUser: (request: FastifyRequest, reply: FastifyReply) => Promise<void>
  }
}

/**
 * Most requests in flight per user and process, including responses that the client has not read (CONTRACT, section 4).
 */
const maxInFlight = 20
const inFlightRetrySeconds = 1
/** Longest wait for Redis: while Redis is unavailable, writes are not limited and need not wait for its timeout. */
const maxWaitMs = 250

const writes = new Set(['POST', 'PUT', 'PATCH', 'DELETE'])

/** Writes per user: all connections and devices of a user share the limits. */
export interface UserLimit {
  max: number
  windowSeconds: number
}

/** Limits per user: all connections and devices of a user share them. */
export default fp<UserLimit>(async (app, { max: maxWrites, windowSeconds }) => {
  const inFlight = new Map<number, number>()
  const whenClosed = closings()

  function release (id: number) {
    const count = inFlight.get(id) as number - 1
    if (count === 0) inFlight.delete(id)
    else inFlight.set(id, count)
  }

  function refuse (request: FastifyRequest, limit: 'user_in_flight' | 'user_writes', retryAfter: number): never {
    app.audit(request, 'limit_hit', { userId: request.user.id }, { limit })
    throw new Problem('rate_limited', { retryAfter })
  }

  function limitInFlight (request: FastifyRequest, reply: FastifyReply) {
    // The client disconnected during the token check. The request would never be released, so it is refused.
    if (request.raw.socket.destroyed) throw new Problem('bad_request')
    const { id } = request.user
    const count = inFlight.get(id) ?? 0
    if (count === maxInFlight) refuse(request, 'user_in_flight', inFlightRetrySeconds)
    inFlight.set(id, count + 1)
    whenClosed(request, reply, () => release(id))
  }

  let count!: ReturnType<FastifyInstance['createRateLimit']>
  // A scope of its own: limiters in the same scope share their keys.
  await app.register(async (scope) => {
    await scope.register(rateLimit, {
      global: false,
      max: maxWrites,
      timeWindow: windowSeconds * 1000,
      ...(app.redis && { redis: app.redis, nameSpace: 'writes:' }),
      keyGenerator: ({ user }) => String(user.id)
    })
    count = scope.createRateLimit()
  })

  async function limitWrites (request: FastifyRequest, reply: FastifyReply) {
    const budget = await within(maxWaitMs, count(request))
    // Undefined without Redis. Without an allow list, `isAllowed` is always false.
    if (!budget || budget.isAllowed) return
    const { max, remaining, ttlInSeconds, isExceeded } = budget
    reply.headers({ 'ratelimit-limit': max, 'ratelimit-remaining': remaining, 'ratelimit-reset': ttlInSeconds })
    if (isExceeded) refuse(request, 'user_writes', ttlInSeconds)
  }

  app.decorate('limitUser', async (request: FastifyRequest, reply: FastifyReply) => {
    limitInFlight(request, reply)
    if (writes.has(request.method)) await limitWrites(request, reply)
  })
}, { name: 'limit-by-user', dependencies: ['redis', 'metrics'] })

/** Returns the result of `work`, or undefined if it fails or takes longer than `ms`. */
async function within<T> (ms: number, work: Promise<T>): Promise<T | undefined> {
  let timer: NodeJS.Timeout | undefined
  const timeout = new Promise<undefined>((resolve) => { timer = setTimeout(() => resolve(undefined), ms) })
  const result = await Promise.race([work.catch(() => undefined), timeout])
  clearTimeout(timer)
  return result
}

/**
 * Returns a function that calls `done` once when a response is closed: it is completely sent, or its client has
 * disconnected. Node emits no 'close' for a response that waits behind another one of its connection, so the 'close' of
 * the connection counts, too.
 */
function closings () {
  const unclosed = new WeakMap<Socket, Set<() => void>>()

  return ({ raw: { socket } }: FastifyRequest, { raw }: FastifyReply, done: () => void) => {
    let waiting = unclosed.get(socket)
    if (waiting === undefined) {
      const all = waiting = new Set<() => void>()
      unclosed.set(socket, all)
      socket.once('close', () => { for (const close of all) close() })
    }
    const own = waiting
    const close = () => {
      if (own.delete(close)) done()
    }
    own.add(close)
    raw.once('close', close)
  }
}
