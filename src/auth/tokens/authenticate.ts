import jwt from '@fastify/jwt'
import type { FastifyRequest } from 'fastify'
import fp from 'fastify-plugin'
import { LRUCache } from 'lru-cache'
import { Problem } from '../../http/problems.js'
import { activeUsers, creationTimes } from '../../users/active.js'
import type { Revocations } from './revocations.js'
import { readToken, type AuthenticatedUser, type TokenOptions, type VerifiedToken } from './token.js'

declare module '@fastify/jwt' {
  interface FastifyJWT { user: AuthenticatedUser }
  interface JWT { previous?: JWT }
}

declare module 'fastify' {
  interface FastifyInstance {
    /** An onRequest hook: verifies the token, checks that the user is active and sets `request.user`. */
    authenticate: (request: FastifyRequest, reply: FastifyReply, done: (error?: Error) => void) => void
    /** Mints the access token of a login. It expires with the session at the latest. */
    signToken (user: AuthenticatedUser): { token: string, expiresInSeconds: number }
  }
}

/** RFC 6750, section 2.1: one space, then a token68. */
const bearer = /^Bearer ([A-Za-z0-9._~+/-]+=*)$/i

/** The problem of an Authorization header that holds no bearer token: unreadable, of another scheme, or empty. */
function headerProblem ({ raw }: FastifyRequest, authorization: string): Problem {
  // Node joins two headers with a comma, but the parameters of another scheme may contain commas, too.
  const isDouble = (raw.headersDistinct.authorization as string[]).length > 1
  const isUnreadable = isDouble || /^Bearer +\S/i.test(authorization) || /\p{Cc}/u.test(authorization)
  return new Problem(isUnreadable ? 'bad_request' : 'token_missing')
}

/** Most verified tokens that a process caches, at about 400 bytes each. */
const maxCached = 100_000

interface Options extends TokenOptions {
  revocations: Revocations
  /** Milliseconds since the epoch. */
  clock: () => number
}

export default fp<Options>(async (app, { secret, secretPrevious, revocations, clock, ...lifetimes }) => {
  const verify = { algorithms: ['HS256' as const], requiredClaims: ['user_id', 'market', 'exp'], cache: false }
  await app.register(jwt, { secret, sign: { algorithm: 'HS256' }, verify })
  if (secretPrevious !== undefined) await app.register(jwt, { secret: secretPrevious, verify, namespace: 'previous' })
  const keys = [app.jwt, ...app.jwt.previous ? [app.jwt.previous] : []]
  const findActive = activeUsers(app.db, app.countActiveCheck)
  const findCreation = creationTimes(app.db)

  // The whole header is the key, so a signature is computed once per token. Only valid tokens are cached.
  const cache = new LRUCache<string, VerifiedToken>({ max: maxCached })

  /** Returns the claims of a token, or undefined if the token is invalid for any reason. */
  function verifyToken (token: string, now: number): VerifiedToken | undefined {
    for (const key of keys) {
      try {
        return readToken(token, key.verify(token), now, lifetimes)
      } catch {
        // Not signed with this key, or not a JWT.
      }
    }
    return undefined
  }

  /** Whether the session of an earlier login has ended (CONTRACT, section 5, checks 4 and 5). */
  async function isSessionOver (token: VerifiedToken, lastLogin: number | null): Promise<boolean> {
    const { id, sessionStart, isStartKnown } = token
    const [created, { until, before }] = await Promise.all(
      [isStartKnown ? findCreation(id) : null, revocations.revokedUntil(id)])
    // A restore of the database made PostgreSQL assign the id twice: the token belongs to its first owner.
    if (created === undefined || (created !== null && sessionStart < created)) return true
    // A committed logout moves last_login past the value that it revokes. A revocation that still equals last_login
    // belongs to a logout whose COMMIT failed: it signed nobody out, and the revocation before it applies.
    return sessionStart <= before || (sessionStart <= until && until !== lastLogin)
  }

  const expiresInSeconds = Math.min(lifetimes.ttlSeconds, lifetimes.sessionMaxSeconds)
  app.decorate('signToken', ({ id, market, sessionStart }) => ({
    token: app.jwt.sign({ user_id: id, market, iat: sessionStart, exp: sessionStart + expiresInSeconds } as object),
    expiresInSeconds
  }))

  app.decorate('authenticate', function authenticate (request, _reply, done) {
    const { authorization } = request.headers
    if (authorization === undefined) return done(new Problem('token_missing'))
    const now = clock() / 1000
    let user = cache.get(authorization)
    if (user === undefined) {
      const token = bearer.exec(authorization)?.[1]
      if (token === undefined) return done(headerProblem(request, authorization))
      user = verifyToken(token, now)
      if (user === undefined) return done(new Problem('invalid_token'))
      cache.set(authorization, user)
    }
    if (user.expiresAt <= now) return done(new Problem('invalid_token'))
    const token = user

    findActive(token.id, (error, lastLogin) => {
      if (error) return done(error)
      if (lastLogin === undefined) return done(new Problem('invalid_token'))
      request.user = token
      // The session of the latest login: only a logout revokes it, and a logout moves last_login.
      if (token.sessionStart === lastLogin) return done()
      isSessionOver(token, lastLogin)
        .then((isOver) => { done(isOver ? new Problem('invalid_token') : undefined) }, done)
    })
  })
}, { name: 'authenticate', dependencies: ['database', 'metrics'] })
