import cors from '@fastify/cors'
import type { FastifyReply, FastifyRequest } from 'fastify'
import fp from 'fastify-plugin'

declare module 'fastify' {
  interface FastifyContextConfig {
    /** False: browsers' preflights are answered like any other request. */
    cors?: false
  }
}

const exposedHeaders = ['WWW-Authenticate', 'Retry-After', 'RateLimit-Limit', 'RateLimit-Remaining', 'RateLimit-Reset', 'Location', 'X-Request-Id']

interface Options { corsOrigins: string[] }

const isNamed = ({ corsOrigins }: Options, origin: string | undefined): origin is string => origin !== undefined && corsOrigins.includes(origin)

/**
 * Opens to a page of CORS_ORIGINS what the router refuses, which it does before any hook. Returns true for a preflight, which
 * is passed on under a path that can be read: its answer is that of every path.
 */
export function openRefusal (config: Options, { headers, method, raw }: FastifyRequest, reply: FastifyReply): boolean {
  if (!isNamed(config, headers.origin)) return false
  if (method === 'OPTIONS' && headers['access-control-request-method'] !== undefined) {
    raw.url = '/'
    reply.server.routing(raw, reply.raw)
    return true
  }
  reply.headers({ 'access-control-allow-origin': headers.origin, 'access-control-expose-headers': exposedHeaders.join(', '), vary: 'Origin' })
  return false
}

/** Browser clients of CORS_ORIGINS: tokens go in a header, so no credentials. To any other origin nothing is opened. */
export default fp<Options>(async (app, config) => {
  await app.register(cors, {
    delegator: ({ headers }, done) => {
      done(null, {
        origin: isNamed(config, headers.origin) && headers.origin,
        methods: ['GET', 'HEAD', 'POST', 'PUT', 'PATCH', 'DELETE'],
        exposedHeaders,
        // An OPTIONS that is none is a method like any other.
        preflight: headers['access-control-request-method'] !== undefined,
        maxAge: 600
      })
    }
  })
}, { name: 'cors' })
