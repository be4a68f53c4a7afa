import type { onRequestHookHandler } from 'fastify'

/** An onRequest hook: no cache keeps the response (RFC 9111, section 5.2.2.5). */
export const noStore: onRequestHookHandler = (_request, reply, done) => {
  reply.header('cache-control', 'no-store')
  done()
}
