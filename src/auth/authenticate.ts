import jwt from '@fastify/jwt'
import fp from 'fastify-plugin'
import type { Config } from '../config.js'
import { problem } from '../errors.js'
import { isMarket, type MarketId } from '../markets.js'
import { activeUsers } from '../users/active.js'

export interface AuthenticatedUser {
  id: number
  market: MarketId
  /** When the token was issued, in seconds since the epoch; the last_login that its login wrote. */
  issuedAt: number
}

declare module '@fastify/jwt' {
  interface FastifyJWT { user: AuthenticatedUser }
}

declare module 'fastify' {
  interface FastifyInstance {
    /** The guard: an onRequest hook that lets a request with the live token of an active user through, as request.user. */
    authenticate: (request: FastifyRequest, reply: FastifyReply, done: (error?: Error) => void) => void
    /** Mints the access token of a login; `issuedAt` in seconds since the epoch. */
    signToken (user: AuthenticatedUser): string
  }
}

/** RFC 6750, section 2.1: one space, and a token68. */
const bearer = /^Bearer ([A-Za-z0-9._~+/-]+=*)$/i
const maxUserId = 2_147_483_647
/** How far a token may outlast the lifetime that is set, for clocks that differ. */
const leewaySeconds = 60

export default fp<Config & { clock: () => number }>(async (app, { jwtSecret, jwtTtlSeconds, clock }) => {
  await app.register(jwt, {
    secret: jwtSecret,
    sign: { algorithm: 'HS256' },
    verify: { algorithms: ['HS256'], requiredClaims: ['user_id', 'market', 'exp'], cache: false }
  })
  const findActive = activeUsers(app.db)

  /** The user a token speaks of. Throws invalid_token whatever is wrong with it. */
  function verify (token: string): AuthenticatedUser {
    let claims: Record<string, unknown>
    try {
      claims = app.jwt.verify(token)
    } catch {
      throw problem('invalid_token')
    }
    const { user_id: id, market, exp, iat = (exp as number) - jwtTtlSeconds } = claims
    const now = clock() / 1000
    if (!Number.isInteger(id) || (id as number) < 1 || (id as number) > maxUserId || !isMarket(market) ||
      !Number.isInteger(exp) || (exp as number) <= now || (exp as number) > now + jwtTtlSeconds + leewaySeconds ||
      !Number.isInteger(iat)) throw problem('invalid_token')
    return { id: id as number, market, issuedAt: iat as number }
  }

  app.decorate('signToken', ({ id, market, issuedAt }) =>
    app.jwt.sign({ user_id: id, market, iat: issuedAt, exp: issuedAt + jwtTtlSeconds } as object))

  app.decorate('authenticate', function authenticate (request, _reply, done) {
    const { authorization } = request.headers
    if (authorization === undefined) return done(problem('token_missing'))
    const token = bearer.exec(authorization)?.[1]
    if (token === undefined) return done(problem('bad_request'))
    let user: AuthenticatedUser
    try {
      user = verify(token)
    } catch (error) {
      return done(error as Error)
    }
    findActive(user.id, (error, found) => {
      if (error) return done(error)
      if (!found?.isActive) return done(problem('invalid_token'))
      request.user = user
      done()
    })
  })
}, { name: 'authenticate', dependencies: ['database'] })
