import { STATUS_CODES } from 'node:http'
import { Type, type Static } from 'typebox'
import { header, type Header } from './responses.js'
import { Int32, openOneOf } from './schemas.js'

/** Every problem by its stable code: its status, and one or two sentences for the person. */
const publicErrors = {
  bad_request: [400, 'The request cannot be read. Check its JSON, its path and its Authorization header.'],
  invalid_code: [400, 'This code is wrong or no longer valid. Check it, or ask for a new one.'],
  token_missing: [401, 'Sign in first: send the access token as "Authorization: Bearer <token>".'],
  invalid_token: [401, 'This access token is not valid. Sign in again.'],
  not_found: [404, 'Nothing was found here. Check the path.'],
  method_not_allowed: [405, 'This path does not support this method. Use one that the Allow header lists.'],
  request_timeout: [408, 'The request took too long to arrive. Send it again.'],
  address_limit: [409, 'You already have 50 addresses. Delete one first.'],
  account_in_use: [409, 'Other records still belong to this account. They must be removed first.'],
  payload_too_large: [413, 'The body is larger than 16 KiB. Send a smaller one.'],
  unsupported_media_type: [415, 'Send the body as application/json.'],
  invalid_request: [422, 'Some values in the request are not valid. Correct those that errors lists.'],
  opted_out: [422,
    'This number has opted out of messages. Text START to the sender of the codes, then ask for a code again.'],
  unsupported_phone: [422, 'Codes cannot be sent to this number. Use a mobile number of a supported market.'],
  resend_too_soon: [429, 'A code was sent a moment ago. Wait before asking for another one.'],
  too_many_sends: [429, 'Too many codes were requested. Try again later.'],
  rate_limited: [429, 'Too many requests. Try again later.'],
  headers_too_large: [431, 'The headers are larger than 16 KiB. Send smaller ones.'],
  internal_error: [500, 'Something went wrong on our side. Try again later.'],
  sms_failed: [502, 'The message could not be sent. Try again.'],
  unavailable: [503, 'The service is temporarily unavailable. Try again in a moment.']
} as const satisfies Record<string, readonly [status: number, detail: string]>

/** Seconds until a client should try again after a 503. */
const unavailableRetrySeconds = 2

export type ProblemCode = keyof typeof publicErrors
type Status<Code extends ProblemCode> = typeof publicErrors[Code][0]

interface ProblemExtras {
  /** Seconds until the client should try again. */
  retryAfter?: number
  attemptsRemaining?: number
  errors?: Array<{ field: string, message: string }>
  /** Methods for the Allow header. */
  allow?: string
  cause?: unknown
}

/** An error to throw: plugins/error-handler responds with it as problem details (RFC 9457). */
export class Problem extends Error {
  readonly problemCode: ProblemCode
  readonly statusCode: number
  readonly retryAfter: number | undefined
  readonly attemptsRemaining: number | undefined
  readonly errors: ProblemExtras['errors']
  readonly allow: string | undefined

  constructor (code: ProblemCode, { retryAfter, attemptsRemaining, errors, allow, cause }: ProblemExtras = {}) {
    const [statusCode, detail] = publicErrors[code]
    // Nothing reads the stack of a problem, and with it a problem takes 15 µs of CPU instead of 1.5.
    const { stackTraceLimit } = Error
    Error.stackTraceLimit = 0
    super(detail, { cause })
    Error.stackTraceLimit = stackTraceLimit
    this.problemCode = code
    this.statusCode = statusCode
    this.retryAfter = retryAfter ?? (code === 'unavailable' ? unavailableRetrySeconds : undefined)
    this.attemptsRemaining = attemptsRemaining
    this.errors = errors
    this.allow = allow
  }
}

/** The schema of every error body: problem details (RFC 9457). */
export const ProblemSchema = Type.Object({
  type: Type.String({ description: '`about:blank`; `code` identifies the problem.' }),
  title: Type.String({ description: 'The reason phrase of the status.' }),
  status: Int32('The status of the response.'),
  detail: Type.String({ description: 'A sentence for the person, which says what to do.' }),
  code: openOneOf(Object.keys(publicErrors) as ProblemCode[], 'The stable identifier of the problem, for programs.'),
  request_id: Type.String({ description: 'Identifies this request in the log; also in X-Request-Id.' }),
  retry_after: Type.Optional(Int32('Seconds until the client should try again.')),
  attempts_remaining: Type.Optional(Int32('Guesses left for the live code; at 0 the code is dead.')),
  errors: Type.Optional(Type.Array(Type.Object({
    field: Type.String({ description: 'JSON pointer (RFC 6901) to the member of the body; empty for the whole body.' }),
    message: Type.String({ description: 'What is wrong with this member.' })
  }, { title: 'FieldError', description: 'A member of the body that is not valid.' }), {
    description: 'The members that are not valid, with status 422.'
  }))
}, { title: 'Problem', description: 'Problem details (RFC 9457).' })

/** The body of the response to `error` (RFC 9457, section 3). */
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

/** Additional members in the examples of the document. */
const exampleExtras: Partial<Record<ProblemCode, ProblemExtras>> = {
  opted_out: { errors: [{ field: '/phone', message: 'has opted out of messages' }] },
  unsupported_phone: { errors: [{ field: '/phone', message: 'cannot receive messages: use a mobile number' }] },
  invalid_code: { attemptsRemaining: 4 },
  resend_too_soon: { retryAfter: 60 },
  too_many_sends: { retryAfter: 3600 },
  rate_limited: { retryAfter: 60 }
}

const problemHeaders: Record<number, Record<string, Header>> = {
  401: {
    'WWW-Authenticate': header('The challenge of RFC 6750: `Bearer realm="phone-auth"`, ' +
      'with `error="invalid_token"` if the request has credentials.')
  },
  429: { 'Retry-After': header('Seconds until the client should try again.', 'int32') },
  503: { 'Retry-After': header('Seconds until the client should try again.', 'int32') }
}

/**
 * The responses of a route for its problems, by status, each with its codes as examples. `field` is the JSON pointer
 * (RFC 6901) to the member of the body that the example of invalid_request names.
 */
export function problems<Code extends ProblemCode> (codes: readonly Code[], field = '/phone') {
  const responses: Record<number, ReturnType<typeof problemResponse>> = {}
  for (const code of codes) {
    const [status] = publicErrors[code]
    responses[status] ??= problemResponse(codes.filter((other) => publicErrors[other][0] === status), field)
  }
  return responses as Record<Status<Code>, ReturnType<typeof problemResponse>>
}

/** The response for a problem that an operation does not list, such as one of a gateway or of a later version. */
export const otherProblem = {
  description: 'Any other problem.',
  content: { 'application/problem+json': { schema: ProblemSchema } }
}

const listed = (codes: readonly ProblemCode[]) => codes.map((code) => `\`${code}\``).join(', ')

function problemResponse (codes: readonly ProblemCode[], field: string) {
  const [status] = publicErrors[codes[0] as ProblemCode]
  const examples = Object.fromEntries(codes.map((code) => {
    const errors = code === 'invalid_request' && { errors: [{ field, message: 'must be a string' }] }
    const error = new Problem(code, { ...exampleExtras[code], ...errors })
    return [code, { summary: error.message, value: problemBody(error, '0b6e1c0e-8f2a-4c55-9d0e-3a1f6f0c7d21') }]
  }))
  return {
    description: `${STATUS_CODES[status]}: ${listed(codes)}.`,
    headers: problemHeaders[status] ?? {},
    content: { 'application/problem+json': { schema: ProblemSchema, examples } }
  }
}
