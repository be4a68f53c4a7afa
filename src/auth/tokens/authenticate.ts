import jwt from '@fastify/jwt'
import type { FastifyRequest } from 'fastify'
import fp from 'fastify-plugin'
import { LRUCache } from 'lru-cache'
import { problem, type Problem } from '../../http/problems.js'
import { activeUsers, creationTimes } from '../../users/active.js'
import type { LogoutMarks } from './revocations.js'
import { readToken, type AuthenticatedUser, type TokenOptions, type VerifiedToken } from './token.js'

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

/** Why an Authorization without a readable token is refused: it is unreadable, of another scheme, or has no token. */
function unusable ({ raw }: FastifyRequest, authorization: string): Problem {
  // Node joins two headers with a comma, which the parameters of another scheme may also have.
  const isDouble = (raw.headersDistinct.authorization as string[]).length > 1
  const isUnreadable = isDouble || /^Bearer +\S/i.test(authorization) || /\p{Cc}/u.test(authorization)
  return problem(isUnreadable ? 'bad_request' : 'token_missing')
}

/** So many verified tokens are remembered by a process, at about 400 bytes each. */
const maxRemembered = 100_000

interface Options extends TokenOptions {
  marks: LogoutMarks
  /** Milliseconds since the epoch. */
  clock: () => number
}

export default fp<Options>(async (app, { secret, secretPrevious, marks, clock, ...lifetimes }) => {
  const verify = { algorithms: ['HS256' as const], requiredClaims: ['user_id', 'market', 'exp'], cache: false }
  await app.register(jwt, { secret, sign: { algorithm: 'HS256' }, verify })
  if (secretPrevious !== undefined) await app.register(jwt, { secret: secretPrevious, verify, namespace: 'previous' })
  const keys = [app.jwt, ...app.jwt.previous ? [app.jwt.previous] : []]
  const findActive = activeUsers(app.db, app.countActiveCheck)
  const findCreation = creationTimes(app.db)

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

  /** Whether the session of an earlier login has ended (CONTRACT, section 5, checks 4 and 5). */
  async function isSessionOver ({ id, sessionStart, isStartKnown }: VerifiedToken, lastLogin: number | null): Promise<boolean> {
    const [created, { until, before }] = await Promise.all([isStartKnown ? findCreation(id) : null, marks.find(id)])
    // The id was given out twice, after a restore: the token is from its first owner.
    if (created === undefined || (created !== null && sessionStart < created)) return true
    // Every logout that was committed has moved last_login past the value that it revoked. A revocation that still equals
    // last_login belongs to a logout whose COMMIT failed: nobody was signed out, and the revocation before it holds.
    return sessionStart <= before || (sessionStart <= until && until !== lastLogin)
  }

  const expiresInSeconds = Math.min(lifetimes.ttlSeconds, lifetimes.sessionMaxSeconds)
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
      if (token === undefined) return done(unusable(request, authorization))
      user = verifyToken(token, now)
      if (user === undefined) return done(problem('invalid_token'))
      remembered.set(authorization, user)
    }
    if (user.expiresAt <= now) return done(problem('invalid_token'))
    const token = user

    findActive(token.id, (error, lastLogin) => {
      if (error) return done(error)
      if (lastLogin === undefined) return done(problem('invalid_token'))
      request.user = token
      // The latest login: nothing else can have ended its session.
      if (token.sessionStart === lastLogin) return done()
      isSessionOver(token, lastLogin).then((isOver) => { done(isOver ? problem('invalid_token') : undefined) }, done)
    })
  })
}, { name: 'authenticate', dependencies: ['database', 'metrics'] })
