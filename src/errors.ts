import { STATUS_CODES } from 'node:http'
import createError from '@fastify/error'
import { Type, type Static } from 'typebox'

const define = (code: string, status: number, detail: string) => createError(code, detail, status, Error, false)

/** Every error a client can meet, by its stable code: status and a sentence for a person. */
const publicErrors = {
  bad_request: define('bad_request', 400, 'The request cannot be read. Check its JSON, its path and its Authorization header.'),
  invalid_code: define('invalid_code', 400, 'This code is wrong or no longer valid. Check it, or ask for a new one.'),
  token_missing: define('token_missing', 401, 'Sign in first: send the access token as "Authorization: Bearer <token>".'),
  invalid_token: define('invalid_token', 401, 'This access token is not valid. Sign in again.'),
  not_found: define('not_found', 404, 'There is nothing here.'),
  method_not_allowed: define('method_not_allowed', 405, 'This path does not answer this method. The Allow header lists those it does.'),
  request_timeout: define('request_timeout', 408, 'The request took too long to arrive. Send it again.'),
  address_limit: define('address_limit', 409, 'There are 50 addresses already. Delete one first.'),
  account_in_use: define('account_in_use', 409, 'Other records still belong to this account. They have to be removed first.'),
  payload_too_large: define('payload_too_large', 413, 'The body is larger than 16 KiB.'),
  unsupported_media_type: define('unsupported_media_type', 415, 'Send the body as application/json.'),
  invalid_request: define('invalid_request', 422, 'The request has values that cannot be accepted; errors lists them.'),
  unsupported_phone: define('unsupported_phone', 422, 'Codes cannot be sent to this number. Use a mobile number of a supported market.'),
  resend_too_soon: define('resend_too_soon', 429, 'A code was sent a moment ago. Wait before asking for another one.'),
  too_many_sends: define('too_many_sends', 429, 'Too many codes were asked for. Try again later.'),
  rate_limited: define('rate_limited', 429, 'Too many requests. Try again later.'),
  headers_too_large: define('headers_too_large', 431, 'The headers are larger than 16 KiB.'),
  internal_error: define('internal_error', 500, 'Something went wrong on our side.'),
  sms_failed: define('sms_failed', 502, 'The message could not be sent. Try again.'),
  unavailable: define('unavailable', 503, 'The service cannot answer right now. Try again in a moment.')
}

export type ProblemCode = keyof typeof publicErrors

export interface ProblemExtras {
  /** Seconds after which to try again. */
  retryAfter?: number
  attemptsRemaining?: number
  errors?: Array<{ field: string, message: string }>
  /** Methods for the Allow header. */
  allow?: string
  cause?: unknown
}

export interface Problem extends Error, ProblemExtras {
  statusCode: number
  problemCode: ProblemCode
}

/** An error to throw: the handler in plugins/problem.ts answers it as RFC 9457 problem details. */
export function problem (code: ProblemCode, extras: ProblemExtras = {}): Problem {
  const error = new publicErrors[code]()
  return Object.assign(error, extras, { statusCode: error.statusCode as number, problemCode: code })
}

export const isProblem = (error: unknown): error is Problem =>
  error instanceof Error && 'problemCode' in error

/** The only description of an error body: RFC 9457 problem details. */
export const ProblemSchema = Type.Object({
  type: Type.Literal('about:blank'),
  title: Type.String(),
  status: Type.Integer(),
  detail: Type.String(),
  code: Type.String(),
  request_id: Type.String(),
  retry_after: Type.Optional(Type.Integer()),
  attempts_remaining: Type.Optional(Type.Integer()),
  errors: Type.Optional(Type.Array(Type.Object({ field: Type.String(), message: Type.String() })))
}, { $id: 'Problem' })

/** The body of an answer to `error` (RFC 9457, section 3). */
export function problemBody (error: Problem, requestId: string): Static<typeof ProblemSchema> {
  return {
    type: 'about:blank',
    title: STATUS_CODES[error.statusCode] as string,
    status: error.statusCode,
    detail: error.message,
    code: error.problemCode,
    request_id: requestId,
    ...(error.retryAfter !== undefined && { retry_after: error.retryAfter }),
    ...(error.attemptsRemaining !== undefined && { attempts_remaining: error.attemptsRemaining }),
    ...(error.errors && { errors: error.errors })
  }
}

/** Response schemas for the given error statuses of a route. */
export const problems = <const S extends number>(...statuses: S[]) =>
  Object.fromEntries(statuses.map((status) => [status, ProblemSchema])) as Record<S, typeof ProblemSchema>
