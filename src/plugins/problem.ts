import type { FastifyError, FastifyReply, FastifyRequest } from 'fastify'
import fp from 'fastify-plugin'
import { clientAddress } from '../client-address.js'
import { isProblem, problem, problemBody, type Problem, type ProblemCode } from '../errors.js'
import { isDatabaseUnavailable } from './database.js'

/** Seconds a client should wait before it tries again after a 503. */
const unavailableRetrySeconds = 2

const frameworkCodes: Record<string, ProblemCode> = {
  FST_ERR_CTP_BODY_TOO_LARGE: 'payload_too_large',
  FST_ERR_CTP_INVALID_MEDIA_TYPE: 'unsupported_media_type'
}

/** Any error as one of the public ones; what is not known becomes internal_error. */
function toProblem (error: FastifyError | Problem | Error): Problem {
  if (isProblem(error)) return error
  if ('validation' in error && error.validation) {
    return problem('invalid_request', {
      errors: error.validation.map(({ instancePath, params, message = 'is not valid' }) => ({
        field: `${instancePath}${params.missingProperty ? `/${String(params.missingProperty)}` : ''}` || '/',
        message: params.missingProperty ? 'is required' : message
      }))
    })
  }
  if (isDatabaseUnavailable(error)) return problem('unavailable', { cause: error })
  if ('statusCode' in error && error.statusCode && error.statusCode < 500) {
    return problem(frameworkCodes[error.code] ?? 'bad_request')
  }
  return problem('internal_error', { cause: error })
}

/** Answers `error` as problem details (RFC 9457); the one place where an answer of 400 and above is made. */
export function sendProblem (error: Error, request: FastifyRequest, reply: FastifyReply) {
  const answer = toProblem(error)
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

export default fp(async (app) => {
  app.setErrorHandler<FastifyError>(sendProblem)
  // In onRequest, or a bad body would answer before the unknown path.
  app.addHook('onRequest', (request, reply, done) => {
    reply.header('x-request-id', request.id)
    done(request.is404 ? problem('not_found') : undefined)
  })
  app.setNotFoundHandler(() => { throw problem('not_found') })
}, { name: 'problem' })
