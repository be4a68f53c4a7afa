import { randomUUID } from 'node:crypto'
import http from 'node:http'
import type { Socket } from 'node:net'
import type { TypeBoxTypeProvider } from '@fastify/type-provider-typebox'
import Fastify, { LogController, type FastifyInstance, type FastifyPluginAsync } from 'fastify'
import type { DestinationStream } from 'pino'
import authenticate from './auth/tokens/authenticate.js'
import { newNonce } from './auth/codes/code.js'
import { memoryCodeStore } from './auth/codes/store.memory.js'
import { redisCodeStore } from './auth/codes/store.redis.js'
import { authRoutes } from './auth/index.js'
import { memoryLogoutMarks, redisLogoutMarks } from './auth/tokens/revocations.js'
import { authService } from './auth/service.js'
import { smsSender, type SmsSender } from './messages/index.js'
import { smsGuard } from './messages/pumping-guard.js'
import { leewaySeconds } from './auth/tokens/token.js'
import { trustedProxies } from './http/client-ip.js'
import type { Config } from './config/index.js'
import { problem } from './http/problems.js'
import { readJson } from './http/json-body.js'
import { createServer } from './http/server.js'
import { connectionLimits } from './limits/by-connection.js'
import limitUser from './limits/by-user.js'
import { dailyMessages } from './messages/daily-maximum.js'
import { guessLimit, memoryGuessStore, redisGuessStore } from './limits/guesses.js'
import { boundBodies, unfinishedBodies } from './limits/unfinished-bodies.js'
import { loggerOptions } from './monitoring/logger.js'
import cors, { openRefusal } from './plugins/cors.js'
import database from './plugins/database.js'
import drain from './plugins/drain.js'
import { healthRoutes } from './health/index.js'
import metrics from './plugins/metrics.js'
import { methodsByPath, refuseOtherMethods } from './http/method-not-allowed.js'
import { shedLoad } from './limits/in-flight.js'
import problems, { refuseUnknownPath, sendProblem } from './plugins/error-handler.js'
import rateLimit from './limits/by-ip.js'
import redis from './plugins/redis.js'
import { answerUnreadable } from './http/unreadable-requests.js'
import { profileRoutes } from './profile/index.js'
import { addressesRepository } from './profile/repository.js'
import { formats } from './http/schemas.js'
import { usersRoutes } from './users/index.js'
import { usersRepository } from './users/repository.js'

/** What tests and development may put in the place of the real thing, or beside it. */
export interface Overrides {
  /** Milliseconds since the epoch. */
  clock?: () => number
  newNonce?: () => string
  sms?: SmsSender
  logStream?: DestinationStream
  /** Routes that only development has. */
  routes?: FastifyPluginAsync
}

/** Longest body that is read, in bytes. */
const maxBodyBytes = 16_384
/** Longest value of a parameter of the path; an id has ten digits. */
const maxParamLength = 100

/** In origin form or in the absolute form of a request to a proxy (RFC 9112, section 3.2). */
const verifyTokenPath = /^(?:https?:\/\/[^/?#]*)?((?:\/api\/v1)?\/auth\/verify-token)(?:[/?#]|$)/i

/** The whole service, not yet listening. */
export async function buildApp (config: Config, overrides: Overrides = {}): Promise<FastifyInstance> {
  const clock = overrides.clock ?? Date.now
  const bodies = unfinishedBodies()
  const connections = connectionLimits(bodies)
  const app = Fastify({
    logger: { ...loggerOptions(config.server.logLevel), ...(overrides.logStream && { stream: overrides.logStream }) },
    logController: new LogController({ disableRequestLogging: true }),
    // Lines carry request_id themselves: a logger per request would cost every request.
    childLoggerFactory: (logger) => logger,
    genReqId: ({ headers }) => {
      const given = headers['x-request-id']
      return typeof given === 'string' && /^[A-Za-z0-9_-]{1,64}$/.test(given) ? given : randomUUID()
    },
    trustProxy: trustedProxies(config.server.trustProxy),
    bodyLimit: maxBodyBytes,
    routerOptions: { maxParamLength },
    return503OnClosing: false,
    // Gateways append the path they ask about, escapes and all.
    rewriteUrl: ({ url }) => verifyTokenPath.exec((url as string).replace(/%[2-7][0-9a-f]/gi, unescapeUnreserved))?.[1] ?? url as string,
    frameworkErrors: (error, request, reply) => {
      if (openRefusal(config.server, request, reply)) return
      sendProblem(error.code === 'FST_ERR_MAX_PARAM_LENGTH' ? problem('not_found') : error, request, reply)
    },
    serverFactory: (handle) => createServer(connections.guard(handle, (err) => {
      app.log.error({ event: 'error', err }, 'a request could not be handled, its connection is closed')
    })),
    clientErrorHandler: (error, socket) => answerUnreadable(error, socket as Socket, connections.canRespond(socket as Socket)),
    ajv: { customOptions: { coerceTypes: false, useDefaults: false, removeAdditional: false, allErrors: true, formats } }
  }).withTypeProvider<TypeBoxTypeProvider>()

  for (const method of http.METHODS) {
    if (!app.supportedMethods.includes(method)) app.addHttpMethod(method)
  }
  readJson(app)
  await app.register(problems)
  await app.register(drain)
  if (config.server.corsOrigins.length > 0) await app.register(cors, config.server)
  app.addHook('onRequest', refuseUnknownPath)
  const allowed = methodsByPath(app)

  // Left out they cost nothing, not even the time to load them.
  if (config.server.hasDocs) await app.register((await import('./plugins/openapi.js')).default)
  await app.register(database, config.database)
  await app.register(redis, { connection: config.redis })
  await app.register(metrics, config.metrics)
  boundBodies(app, bodies)
  const { codeSecrets: secrets, ipLimit, pumpingGuard, marketDailyMax } = config
  await app.register(rateLimit, { ...ipLimit, secrets, trustProxy: config.server.trustProxy })
  await app.register(limitUser, config.userLimit)
  const { sessionMaxSeconds } = config.tokens
  const marks = app.redis ? redisLogoutMarks(app.redis, sessionMaxSeconds + leewaySeconds) : memoryLogoutMarks()
  await app.register(authenticate, { ...config.tokens, marks, clock })

  const users = usersRepository(app.db)
  const auth = authService({ phones: config.phones, message: config.message, secrets, sessionMaxSeconds }, {
    db: app.db,
    users,
    codes: app.redis ? redisCodeStore(app.redis, config.codes) : memoryCodeStore(config.codes),
    marks,
    guesses: guessLimit(app.redis ? redisGuessStore(app.redis) : memoryGuessStore(), secrets, ipLimit.guessesPerHour),
    guard: app.redis && pumpingGuard.mode !== 'off' ? smsGuard(app.redis, pumpingGuard, secrets) : undefined,
    daily: app.redis && marketDailyMax ? dailyMessages(app.redis, secrets, marketDailyMax) : undefined,
    sms: overrides.sms ?? smsSender(config.provider),
    clock,
    newNonce: overrides.newNonce ?? newNonce
  })

  // All routes but the probes, which answer under any load.
  await app.register(async (loaded) => {
    shedLoad(loaded)
    for (const prefix of ['/api/v1/auth', '/auth']) {
      await loaded.register(authRoutes, { prefix, auth, resendSeconds: config.codes.resendMs / 1000 })
    }
    // The one scope whose routes need a signed-in user.
    await loaded.register(async (guarded) => {
      guarded.addHook('onRequest', guarded.authenticate)
      guarded.addHook('onRequest', guarded.limitUser)
      guarded.addHook('onRequest', (_request, reply, done) => {
        reply.header('cache-control', 'no-store')
        done()
      })
      await guarded.register(usersRoutes, {
        prefix: '/users',
        users,
        deleteAccount: (request) => auth.deleteAccount(request.user.id, app.audit.bind(null, request))
      })
      await guarded.register(profileRoutes, { prefix: '/profile', addresses: addressesRepository(app.db) })
    }, { prefix: '/api/v1' })
  })
  await app.register(healthRoutes, { prefix: '/health', clock })
  if (overrides.routes) await app.register(overrides.routes)

  refuseOtherMethods(app, allowed)
  if (['debug', 'trace'].includes(config.server.logLevel)) {
    app.addHook('onResponse', async (request, reply) => {
      if (reply.statusCode < 500) request.log.debug({ event: 'answer', status: reply.statusCode, method: request.method, route: request.routeOptions.url, request_id: request.id })
    })
  }
  return app
}

/** An escape of a character that means the same without it (RFC 3986, section 2.3) as that character. */
function unescapeUnreserved (escape: string) {
  const character = decodeURIComponent(escape)
  return /[\w.~-]/.test(character) ? character : escape
}
