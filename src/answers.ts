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
