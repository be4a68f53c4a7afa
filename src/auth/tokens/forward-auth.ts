import type { FastifyPluginAsync, FastifyReply, FastifyRequest, onRequestHookHandler } from 'fastify'
import { Type } from 'typebox'
import { Problem, problems } from '../../http/problems.js'
import { responseOf, authenticated, header } from '../../http/responses.js'
import { OpenMarket } from '../../http/market-schemas.js'
import { True, UserId } from '../../http/schemas.js'

const TokenCheckSchema = Type.Object({
  valid: True('Always true. The response to an invalid token is a Problem.'),
  user_id: UserId,
  market: OpenMarket('The market of the user.')
}, { title: 'TokenCheck' })

export const verifyTokenSchema = {
  operationId: 'verifyToken',
  summary: 'Check a token, for gateways',
  description: 'The forward-auth endpoint. It takes any method and any suffix of its path, and reads no body. The ' +
    'response is always 200, 401 or 503. A malformed `Authorization` header is 401 here.',
  tags: ['auth'],
  ...authenticated,
  response: {
    200: responseOf(TokenCheckSchema, 'The token is valid.',
      { valid: true, user_id: 19, market: 'kg' },
      { 'X-User-Id': header('The id of the user.', 'int64'), 'X-User-Market': header('The market of the user.') }),
    ...problems(['token_missing', 'invalid_token', 'unavailable'])
  }
}

/** The path in origin form, or in the absolute form of a request to a proxy (RFC 9112, section 3.2). */
const verifyTokenPath = /^(?:https?:\/\/[^/?#]*)?((?:\/api\/v1)?\/auth\/verify-token)(?:[/?#]|$)/i

/** Decodes the escape of an unreserved character (RFC 3986, section 2.3) and keeps any other escape. */
function unescapeUnreserved (escape: string) {
  const character = decodeURIComponent(escape)
  return /[\w.~-]/.test(character) ? character : escape
}

/** Returns the URL of a forward-auth request without the path that the gateway appended; any other URL as it is. */
export const withoutForwardedPath = (url: string): string =>
  verifyTokenPath.exec(url.replace(/%[2-7][0-9a-f]/gi, unescapeUnreserved))?.[1] ?? url

/** The forward-auth route of gateways, /verify-token: for any method the response is 200, 401 or 503. */
export const forwardAuthRoutes: FastifyPluginAsync = async (app) => {
  const authenticate: onRequestHookHandler = (request, reply, done) => app.authenticate(request, reply, (error) => {
    if (error !== undefined && !(error instanceof Problem)) return done(new Problem('unavailable', { cause: error }))
    done(error?.statusCode === 400 ? new Problem('invalid_token') : error)
  })
  // The body belongs to a request to another service. A response from the hook leaves it unread.
  const respond = (request: FastifyRequest, reply: FastifyReply) => {
    const { id, market } = request.user
    reply.header('x-user-id', id).header('x-user-market', market).send({ valid: true, user_id: id, market })
  }
  const onRequest = [authenticate, respond]
  const route = { url: '/verify-token', config: { cors: false as const }, onRequest, handler: respond }
  const otherMethods = app.supportedMethods.filter((method) => method !== 'GET')
  app.route({ ...route, method: 'GET', exposeHeadRoute: false, schema: verifyTokenSchema })
  app.route({ ...route, method: otherMethods, schema: { ...verifyTokenSchema, hide: true } })
}
