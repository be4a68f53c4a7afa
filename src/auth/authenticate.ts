import jwt from '@fastify/jwt'
import fp from 'fastify-plugin'
import { LRUCache } from 'lru-cache'
import type { Config } from '../config.js'
import { problem } from '../errors.js'
import { activeUsers } from '../users/active.js'
import type { LogoutMarks } from './logout-marks.js'
import { readToken, type AuthenticatedUser, type VerifiedToken } from './token.js'

declare module '@fastify/jwt' {
  interface FastifyJWT { user: AuthenticatedUser }
  interface JWT { previous?: JWT }
}

declare module 'fastify' {
  interface FastifyInstance {
    /** The guard: an onRequest hook that lets a request with the live token of an active user through, as request.user. */
    authenticate: (request: FastifyRequest, reply: FastifyReply, done: (error?: Error) => void) => void
    /** Mints the access token of a login, which ends with the session at the latest. */
    signToken (user: AuthenticatedUser): { token: string, expiresInSeconds: number }
  }
}

/** RFC 6750, section 2.1: one space, and a token68. */
const bearer = /^Bearer ([A-Za-z0-9._~+/-]+=*)$/i

/** So many verified tokens are remembered by a process, at about 400 bytes each. */
const maxRemembered = 100_000

interface Options extends Pick<Config, 'jwtSecret' | 'jwtSecretPrevious' | 'jwtTtlSeconds' | 'sessionMaxSeconds'> {
  marks: LogoutMarks
  /** Milliseconds since the epoch. */
  clock: () => number
}

export default fp<Options>(async (app, { jwtSecret, jwtSecretPrevious, marks, clock, ...lifetimes }) => {
  const verify = { algorithms: ['HS256' as const], requiredClaims: ['user_id', 'market', 'exp'], cache: false }
  await app.register(jwt, { secret: jwtSecret, sign: { algorithm: 'HS256' }, verify })
  if (jwtSecretPrevious !== undefined) await app.register(jwt, { secret: jwtSecretPrevious, verify, namespace: 'previous' })
  const keys = [app.jwt, ...app.jwt.previous ? [app.jwt.previous] : []]
  const findActive = activeUsers(app.db, app.countActiveCheck)

  // By the whole header: a signature is computed once for a token, not at each request. Only good ones are kept.
  const remembered = new LRUCache<string, VerifiedToken>({ max: maxRemembered })

  /** What a token says; undefined whatever is wrong with it. */
  function verifyToken (token: string, now: number): VerifiedToken | undefined {
    for (const key of keys) {
      try {
        return readToken(token, key.verify(token), now, lifetimes)
      } catch {
        // Not signed with this key, or no token at all.
      }
    }
    return undefined
  }

  const expiresInSeconds = Math.min(lifetimes.jwtTtlSeconds, lifetimes.sessionMaxSeconds)
  app.decorate('signToken', ({ id, market, sessionStart }) => ({
    token: app.jwt.sign({ user_id: id, market, iat: sessionStart, exp: sessionStart + expiresInSeconds } as object),
    expiresInSeconds
  }))

  app.decorate('authenticate', function authenticate (request, _reply, done) {
    const { authorization } = request.headers
    if (authorization === undefined) return done(problem('token_missing'))
    const now = clock() / 1000
    let user = remembered.get(authorization)
    if (user === undefined) {
      const token = bearer.exec(authorization)?.[1]
      if (token === undefined) return done(problem('bad_request'))
      user = verifyToken(token, now)
      if (user === undefined) return done(problem('invalid_token'))
      remembered.set(authorization, user)
    }
    if (user.expiresAt <= now) return done(problem('invalid_token'))
    const { id, sessionStart } = user

    findActive(id, (error, lastLogin) => {
      if (error) return done(error)
      if (lastLogin === undefined) return done(problem('invalid_token'))
      request.user = user
      // The token of the latest login needs no look at the mark.
      if (sessionStart === lastLogin) return done()
      marks.find(id).then(
        (mark) => { done(sessionStart > mark ? undefined : problem('invalid_token')) },
        done)
    })
  })
}, { name: 'authenticate', dependencies: ['database', 'metrics'] })
