import cors from '@fastify/cors'
import type { FastifyReply, FastifyRequest } from 'fastify'
import fp from 'fastify-plugin'

declare module 'fastify' {
  interface FastifyContextConfig {
    /** False: a preflight to this route is a request like any other. */
    cors?: false
  }
}

const exposedHeaders = [
  'WWW-Authenticate', 'Retry-After', 'RateLimit-Limit', 'RateLimit-Remaining', 'RateLimit-Reset', 'Location',
  'X-Request-Id'
]

interface Options { corsOrigins: string[] }

const isNamed = ({ corsOrigins }: Options, origin: string | undefined): origin is string =>
  origin !== undefined && corsOrigins.includes(origin)

/**
 * Adds the CORS headers to a response that the router sends before any hook runs, if the origin is in CORS_ORIGINS.
 * Returns true for a preflight. The preflight is routed again as `/`, because the response to a preflight is the same
 * for every path.
 */
export function openRefusal (config: Options, { headers, method, raw }: FastifyRequest, reply: FastifyReply): boolean {
  if (!isNamed(config, headers.origin)) return false
  if (method === 'OPTIONS' && headers['access-control-request-method'] !== undefined) {
    raw.url = '/'
    reply.server.routing(raw, reply.raw)
    return true
  }
  reply.headers({
    'access-control-allow-origin': headers.origin,
    'access-control-expose-headers': exposedHeaders.join(', '),
    vary: 'Origin'
  })
  return false
}

/**
 * CORS for the browser clients of CORS_ORIGINS. Tokens travel in a header, so credentials are not allowed. Other
 * origins get no CORS headers.
 */
export default fp<Options>(async (app, config) => {
  await app.register(cors, {
    delegator: ({ headers }, done) => {
      done(null, {
        origin: isNamed(config, headers.origin) && headers.origin,
        methods: ['GET', 'HEAD', 'POST', 'PUT', 'PATCH', 'DELETE'],
        exposedHeaders,
        // OPTIONS without Access-Control-Request-Method is not a preflight.
        preflight: headers['access-control-request-method'] !== undefined,
        maxAge: 600
      })
    }
  })
}, { name: 'cors' })
