import type { Static, TSchema } from 'typebox'

/** A header of an answer, as the document describes it. */
export interface Header {
  type: 'string' | 'integer'
  description: string
}
export const header = (description: string, type: Header['type'] = 'string'): Header => ({ type, description })

/** A schema as the answer of a route, with what the document tells of it: when it comes, its headers, and an example. */
export const answer = <T extends TSchema>(schema: T, description: string, example?: Static<T>, headers?: Record<string, Header>): T =>
  ({ ...schema, description, ...(example !== undefined && { examples: [example] }), ...(headers && { headers }) })

/** Routes that want an access token. */
export const guarded = { security: [{ accessToken: [] }] }

const rateLimitHeaders: Record<string, Header> = {
  'RateLimit-Limit': header('Requests in a window: per client IP on the public auth routes together, per user for all writes together.', 'integer'),
  'RateLimit-Remaining': header('Requests left in this window.', 'integer'),
  'RateLimit-Reset': header('Seconds until the window ends.', 'integer')
}

/** Adds the headers of a rate limit to every response of a route, except for 401: requests without a valid token do not count. */
export const limited = <T extends Record<number, object>>(responses: T) => Object.fromEntries(Object.entries(responses).map(([status, response]) =>
  [status, status === '401' ? response : { ...response, headers: { ...(response as { headers?: object }).headers, ...rateLimitHeaders } }])) as T
