import type { FastifyError, FastifyReply, FastifyRequest, FastifySchemaValidationError, onRequestHookHandler } from 'fastify'
import fp from 'fastify-plugin'
import { isDatabaseUnavailable } from '../db/errors.js'
import { clientAddress } from '../http/client-ip.js'
import { isProblem, problem, problemBody, type Problem, type ProblemCode } from '../http/problems.js'
import { formatComplaints } from '../http/schemas.js'

/** Seconds a client should wait before it tries again after a 503. */
const unavailableRetrySeconds = 2

const frameworkCodes: Record<string, ProblemCode> = {
  FST_ERR_CTP_BODY_TOO_LARGE: 'payload_too_large',
  FST_ERR_CTP_INVALID_MEDIA_TYPE: 'unsupported_media_type'
}

const anyComplaint = () => 'does not have the expected form'
/** What is wrong with a member, by the keyword of JSON Schema that refused it. */
const complaints: Record<string, (params: Record<string, unknown>) => string> = {
  required: () => 'is required',
  // A nullable member has two types, null last.
  type: ({ type }) => `must be ${type === 'object' ? 'an' : 'a'} ${String([type].flat()[0])}`,
  enum: ({ allowedValues }) => `must be one of ${(allowedValues as string[]).join(', ')}`,
  minLength: () => 'must not be empty',
  maxLength: ({ limit }) => `must have at most ${limit} characters`,
  format: ({ format }) => formatComplaints[format as keyof typeof formatComplaints],
  // No request has another pattern than notBlank.
  pattern: () => 'must not be blank'
}

/** Each member at fault by its JSON pointer (RFC 6901), with the first thing that is wrong with it. */
function fieldErrors (validation: FastifySchemaValidationError[]) {
  const errors = new Map<string, string>()
  for (const { instancePath, keyword, params } of validation) {
    const field = keyword === 'required' ? `${instancePath}/${params.missingProperty}` : instancePath
    if (!errors.has(field)) errors.set(field, (complaints[keyword] ?? anyComplaint)(params))
  }
  return [...errors].map(([field, message]) => ({ field, message }))
}

/** Anything thrown as one of the public errors; what is not known becomes internal_error. */
function toProblem (error: unknown, request: FastifyRequest): Problem {
  if (isProblem(error)) return error
  if (!(error instanceof Error)) return problem('internal_error', { cause: error })
  const { validation, code, statusCode = 500 } = error as FastifyError
  if (validation) return problem('invalid_request', { errors: fieldErrors(validation) })
  // The client went away in the middle of its body.
  if (error === request.raw.errored) return problem('bad_request')
  if (isDatabaseUnavailable(error)) return problem('unavailable', { cause: error })
  return statusCode < 500 ? problem(frameworkCodes[code] ?? 'bad_request') : problem('internal_error', { cause: error })
}

/** Answers `error` as problem details (RFC 9457); the one place where an answer of 400 and above is made. */
export function sendProblem (error: unknown, request: FastifyRequest, reply: FastifyReply) {
  const answer = toProblem(error, request)
  if (answer.problemCode === 'unavailable') answer.retryAfter ??= unavailableRetrySeconds
  if (answer.statusCode >= 500) {
    request.log.error({
      event: 'error',
      status: answer.statusCode,
      code: answer.problemCode,
      method: request.method,
      route: request.routeOptions.url,
      client: clientAddress(request),
      request_id: request.id,
      traceparent: request.headers.traceparent,
      err: answer.cause
    })
  }
  if (answer.retryAfter !== undefined) reply.header('retry-after', answer.retryAfter)
  if (answer.allow !== undefined) reply.header('allow', answer.allow)
  if (answer.statusCode === 401) {
    // RFC 6750, section 3.1: no error attribute where no credentials came.
    reply.header('www-authenticate', 'Bearer realm="phone-auth"' +
      (answer.problemCode === 'token_missing' ? '' : ', error="invalid_token"'))
  }
  return reply
    .code(answer.statusCode)
    .header('x-request-id', request.id)
    .header('cache-control', 'no-store')
    .type('application/problem+json')
    .send(problemBody(answer, request.id))
}

/** An onRequest hook: answers 404 before a body is read, or a bad one would be told first. "*" is the preflight route of CORS. */
export const refuseUnknownPath: onRequestHookHandler = ({ is404, routeOptions }, _reply, done) => {
  done(is404 || routeOptions.url === '*' ? problem('not_found') : undefined)
}

export default fp(async (app) => {
  app.setErrorHandler(sendProblem)
  app.addHook('onRequest', (request, reply, done) => {
    reply.header('x-request-id', request.id)
    done()
  })
  app.setNotFoundHandler(() => { throw problem('not_found') })
}, { name: 'problem' })
