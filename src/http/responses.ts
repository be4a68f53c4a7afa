import type {} from 'fastify'
import type { Static, TSchema } from 'typebox'

declare module 'fastify' {
  interface FastifySchema {
    /** Parameters of the path as the document has them, where the handler and not `params` checks them. */
    documentedParams?: TSchema
  }
}

/** A header of a response, as the document describes it. */
export interface Header {
  type: 'string' | 'integer'
  format?: 'int32' | 'int64'
  description: string
}
export const header = (description: string, format?: 'int32' | 'int64'): Header =>
  format ? { type: 'integer', format, description } : { type: 'string', description }

/** A schema as the response of a route, with what the document adds: when it is sent, its headers, and an example. */
export const answer = <T extends TSchema>(schema: T, description: string, example?: Static<T>, headers?: Record<string, Header>): T => ({
  ...schema,
  'x-response-description': description,
  ...(example !== undefined && { examples: [example] }),
  ...(headers && { headers })
})

/** The security of an authenticated route, in OpenAPI. */
export const authenticated = { security: [{ accessToken: [] }] }

const rateLimitHeaders: Record<string, Header> = {
  'RateLimit-Limit': header('Requests per window: of a client IP to the public auth routes, of a user to all writes.', 'int32'),
  'RateLimit-Remaining': header('Requests left in this window.', 'int32'),
  'RateLimit-Reset': header('Seconds until the window ends.', 'int32')
}

/** Adds the headers of a rate limit to every response of a route, except for 401: requests without a valid token do not count. */
export const limited = <T extends Record<number, object>>(responses: T) => Object.fromEntries(Object.entries(responses).map(([status, response]) =>
  [status, status === '401' ? response : { ...response, headers: { ...(response as { headers?: object }).headers, ...rateLimitHeaders } }])) as T
