import type {
  FastifyError, FastifyReply, FastifyRequest, FastifySchemaValidationError, onRequestHookHandler
} from 'fastify'
import fp from 'fastify-plugin'
import { isDatabaseUnavailable } from '../db/errors.js'
import { clientAddress } from '../http/client-ip.js'
import { Problem, problemBody, type ProblemCode } from '../http/problems.js'
import { formatComplaints } from '../http/schemas.js'

const frameworkCodes: Record<string, ProblemCode> = {
  FST_ERR_CTP_BODY_TOO_LARGE: 'payload_too_large',
  FST_ERR_CTP_INVALID_MEDIA_TYPE: 'unsupported_media_type'
}

const anyComplaint = () => 'does not have the expected form'
/** What is wrong with a member, by the JSON Schema keyword that refused the member. */
const complaints: Record<string, (params: Record<string, unknown>) => string> = {
  required: () => 'is required',
  // A nullable member has two types, null last.
  type: ({ type }) => `must be ${type === 'object' ? 'an' : 'a'} ${String([type].flat()[0])}`,
  enum: ({ allowedValues }) => `must be one of ${(allowedValues as string[]).join(', ')}`,
  minLength: () => 'must not be empty',
  maxLength: ({ limit }) => `must have at most ${limit} characters`,
  format: ({ format }) => formatComplaints[format as keyof typeof formatComplaints],
  // notBlank is the only pattern in the schema of a request.
  pattern: () => 'must not be blank'
}

/** One entry for each invalid member: its JSON pointer (RFC 6901), and the first thing that is wrong with it. */
function fieldErrors (validation: FastifySchemaValidationError[]) {
  const errors = new Map<string, string>()
  for (const { instancePath, keyword, params } of validation) {
    const field = keyword === 'required' ? `${instancePath}/${params.missingProperty}` : instancePath
    if (!errors.has(field)) errors.set(field, (complaints[keyword] ?? anyComplaint)(params))
  }
  return [...errors].map(([field, message]) => ({ field, message }))
}

/** Returns anything thrown as a public problem; an unknown error becomes internal_error. */
function toProblem (error: unknown, request: FastifyRequest): Problem {
  if (error instanceof Problem) return error
  if (!(error instanceof Error)) return new Problem('internal_error', { cause: error })
  const { validation, code, statusCode = 500 } = error as FastifyError
  if (validation) return new Problem('invalid_request', { errors: fieldErrors(validation) })
  // The client closed the connection in the middle of its body.
  if (error === request.raw.errored) return new Problem('bad_request')
  if (isDatabaseUnavailable(error)) return new Problem('unavailable', { cause: error })
  if (statusCode < 500) return new Problem(frameworkCodes[code] ?? 'bad_request')
  return new Problem('internal_error', { cause: error })
}

/**
 * Responds to `error` with problem details (RFC 9457). Every response of 400 and above is made here, except those to
 * requests that Node cannot parse (http/unreadable-requests).
 */
export function sendProblem (error: unknown, request: FastifyRequest, reply: FastifyReply) {
  const details = toProblem(error, request)
  if (details.statusCode >= 500) {
    request.log.error({
      event: 'error',
      status: details.statusCode,
      code: details.problemCode,
      method: request.method,
      route: request.routeOptions.url,
      client: clientAddress(request),
      request_id: request.id,
      traceparent: request.headers.traceparent,
      err: details.cause
    })
  }
  if (details.retryAfter !== undefined) reply.header('retry-after', details.retryAfter)
  if (details.allow !== undefined) reply.header('allow', details.allow)
  if (details.statusCode === 401) {
    // RFC 6750, section 3.1: no error attribute if the request has no credentials.
    reply.header('www-authenticate', 'Bearer realm="phone-auth"' +
      (details.problemCode === 'token_missing' ? '' : ', error="invalid_token"'))
  }
  return reply
    .code(details.statusCode)
    .header('x-request-id', request.id)
    .header('cache-control', 'no-store')
    .type('application/problem+json')
    .send(problemBody(details, request.id))
}

/**
 * An onRequest hook that responds 404 before the body is read. Otherwise an invalid body would hide the unknown path.
 * "*" is the preflight route of CORS.
 */
export const refuseUnknownPath: onRequestHookHandler = ({ is404, routeOptions }, _reply, done) => {
  done(is404 || routeOptions.url === '*' ? new Problem('not_found') : undefined)
}

export default fp(async (app) => {
  app.setErrorHandler(sendProblem)
  app.addHook('onRequest', (request, reply, done) => {
    reply.header('x-request-id', request.id)
    done()
  })
  app.setNotFoundHandler(() => { throw new Problem('not_found') })
}, { name: 'problem' })
