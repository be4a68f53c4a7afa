import type {} from 'fastify'
import type { Static, TSchema } from 'typebox'

declare module 'fastify' {
  interface FastifySchema {
    /** The path parameters in the document, if the handler checks them instead of `params`. */
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

/**
 * The schema of a response, with additions for the document: when the response is sent, an example, and its headers.
 */
export function responseOf<T extends TSchema> (
  schema: T, description: string, example?: Static<T>, headers?: Record<string, Header>
): T {
  return {
    ...schema,
    'x-response-description': description,
    ...(example !== undefined && { examples: [example] }),
    ...(headers && { headers })
  }
}

/** The part of a schema that marks an authenticated route in the document. */
export const authenticated = { security: [{ accessToken: [] }] }

const rateLimitHeaders: Record<string, Header> = {
  'RateLimit-Limit': header(
    'Requests per window: per client IP on the public auth routes, per user on all writes.', 'int32'),
  'RateLimit-Remaining': header('Requests left in this window.', 'int32'),
  'RateLimit-Reset': header('Seconds until the window ends.', 'int32')
}

/**
 * Adds the headers of a rate limit to every response of a route, except for 401: requests without a valid token do not
 * count.
 */
export const limited = <T extends Record<number, object>>(responses: T) =>
  Object.fromEntries(Object.entries(responses).map(([status, response]) => {
    const { headers } = response as { headers?: object }
    return [status, status === '401' ? response : { ...response, headers: { ...headers, ...rateLimitHeaders } }]
  })) as T
