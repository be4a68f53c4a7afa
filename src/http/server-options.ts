import { randomUUID } from 'node:crypto'
import type { IncomingMessage } from 'node:http'
import { LogController, type FastifyServerOptions } from 'fastify'
import { trustedProxies } from './client-ip.js'
import { formats } from './schemas.js'
import { buildSerializer } from './serializers.js'

/** Longest body that is read, in bytes. */
const maxBodyBytes = 16_384
/** Longest value of a parameter of the path; an id has ten digits. */
const maxParamLength = 100

/** Returns the value of X-Request-Id where it has 1 to 64 of `A-Za-z0-9_-`, else a new UUID. */
function requestId ({ headers }: IncomingMessage): string {
  const given = headers['x-request-id']
  return typeof given === 'string' && /^[A-Za-z0-9_-]{1,64}$/.test(given) ? given : randomUUID()
}

/** Fastify's options that depend on no feature. `trustProxy` lists the addresses and CIDR ranges of the gateways. */
export const serverOptions = (trustProxy: string[]) => ({
  logController: new LogController({ disableRequestLogging: true }),
  // A logger for each request would cost every request: log lines carry request_id themselves.
  childLoggerFactory: (logger) => logger,
  genReqId: requestId,
  trustProxy: trustedProxies(trustProxy),
  bodyLimit: maxBodyBytes,
  routerOptions: { maxParamLength },
  return503OnClosing: false,
  schemaController: { compilersFactory: { buildSerializer } },
  ajv: { customOptions: { coerceTypes: false, useDefaults: false, removeAdditional: false, allErrors: true, formats } }
} satisfies FastifyServerOptions)
