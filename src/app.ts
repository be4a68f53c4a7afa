import http from 'node:http'
import type { Socket } from 'node:net'
import type { TypeBoxTypeProvider } from '@fastify/type-provider-typebox'
import Fastify, { type FastifyInstance, type FastifyPluginAsync } from 'fastify'
import type { DestinationStream } from 'pino'
import { accountRoutes } from './account/index.js'
import { accountService } from './account/service.js'
import { newNonce } from './auth/codes/code.js'
import { memoryCodeStore } from './auth/codes/store.memory.js'
import { redisCodeStore } from './auth/codes/store.redis.js'
import { authRoutes } from './auth/index.js'
import { authService } from './auth/service.js'
import authenticate from './auth/tokens/authenticate.js'
import { forwardAuthRoutes, withoutForwardedPath } from './auth/tokens/forward-auth.js'
import { memoryRevocations, redisRevocations } from './auth/tokens/revocations.js'
import { leewaySeconds } from './auth/tokens/token.js'
import type { Config } from './config/index.js'
import { healthRoutes } from './health/index.js'
import { readJson } from './http/json-body.js'
import { methodsByPath, refuseOtherMethods } from './http/method-not-allowed.js'
import { noStore } from './http/no-store.js'
import { problem } from './http/problems.js'
import { serverOptions } from './http/server-options.js'
import { createServer } from './http/server.js'
import { respondToUnreadable } from './http/unreadable-requests.js'
import { connectionLimits } from './limits/by-connection.js'
import rateLimit from './limits/by-ip.js'
import limitUser from './limits/by-user.js'
import { guessLimit, memoryGuessStore, redisGuessStore } from './limits/guesses.js'
import { shedLoad } from './limits/in-flight.js'
import { boundBodies, unfinishedBodies } from './limits/unfinished-bodies.js'
import { dailyMessages } from './messages/daily-maximum.js'
import { smsSender, type SmsSender } from './messages/index.js'
import { pumpingGuard } from './messages/pumping-guard.js'
import { loggerOptions } from './monitoring/logger.js'
import cors, { openRefusal } from './plugins/cors.js'
import database from './plugins/database.js'
import drain from './plugins/drain.js'
import problems, { refuseUnknownPath, sendProblem } from './plugins/error-handler.js'
import metrics from './plugins/metrics.js'
import redis from './plugins/redis.js'
import { profileRoutes } from './profile/index.js'
import { addressesRepository } from './profile/repository.js'
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

/** The whole service, not yet listening. */
export async function buildApp (config: Config, overrides: Overrides = {}): Promise<FastifyInstance> {
  const clock = overrides.clock ?? Date.now
  const bodies = unfinishedBodies()
  const connections = connectionLimits(bodies)
  const app = Fastify({
    ...serverOptions(config.trustProxy),
    logger: { ...loggerOptions(config.logLevel), ...(overrides.logStream && { stream: overrides.logStream }) },
    rewriteUrl: ({ url }) => withoutForwardedPath(url as string),
    frameworkErrors: (error, request, reply) => {
      if (openRefusal(config, request, reply)) return
      sendProblem(error.code === 'FST_ERR_MAX_PARAM_LENGTH' ? problem('not_found') : error, request, reply)
    },
    serverFactory: (handle) => createServer(connections.guard(handle, (err) => {
      app.log.error({ event: 'error', err }, 'a request could not be handled, its connection is closed')
    })),
    clientErrorHandler: (error, socket) => respondToUnreadable(error, socket as Socket, connections.canRespond(socket as Socket))
  }).withTypeProvider<TypeBoxTypeProvider>()

  for (const method of http.METHODS) {
    if (!app.supportedMethods.includes(method)) app.addHttpMethod(method)
  }
  readJson(app)
  await app.register(problems)
  await app.register(drain)
  if (config.corsOrigins.length > 0) await app.register(cors, config)
  app.addHook('onRequest', refuseUnknownPath)
  const allowed = methodsByPath(app)

  // Left out they cost nothing, not even the time to load them.
  if (config.docs) await app.register((await import('./plugins/openapi.js')).default)
  await app.register(database, config)
  await app.register(redis, config)
  await app.register(metrics, config)
  boundBodies(app, bodies)
  await app.register(rateLimit, config)
  await app.register(limitUser, config)
  const revocations = app.redis
    ? redisRevocations(app.redis, config.sessionMaxSeconds + leewaySeconds)
    : memoryRevocations()
  await app.register(authenticate, { ...config, revocations, clock })

  const limits = {
    ttlMs: config.codeTtlSeconds * 1000,
    resendMs: config.codeResendSeconds * 1000,
    sendsPerHour: config.codeSendsPerHour,
    sendsPerDay: config.codeSendsPerDay,
    maxAttempts: config.codeMaxAttempts,
    guessesPerDay: config.codeGuessesPerDay
  }
  const users = usersRepository(app.db)
  const codes = app.redis ? redisCodeStore(app.redis, limits) : memoryCodeStore(limits)
  const auth = authService(config, {
    db: app.db,
    users,
    codes,
    revocations,
    guesses: guessLimit(app.redis ? redisGuessStore(app.redis) : memoryGuessStore(), config),
    guard: app.redis && config.smsGuard !== 'off' ? pumpingGuard(app.redis, config) : undefined,
    daily: app.redis && config.smsMarketDailyMax ? dailyMessages(app.redis, config, config.smsMarketDailyMax) : undefined,
    sms: overrides.sms ?? smsSender(config),
    clock,
    newNonce: overrides.newNonce ?? newNonce
  })

  // All routes but the probes, which respond under any load.
  await app.register(async (loaded) => {
    shedLoad(loaded)
    loaded.addHook('onRequest', noStore)
    for (const prefix of ['/api/v1/auth', '/auth']) {
      await loaded.register(authRoutes, { prefix, auth, resendSeconds: config.codeResendSeconds })
      await loaded.register(forwardAuthRoutes, { prefix })
    }
    // The one scope whose routes need a signed-in user.
    await loaded.register(async (authenticated) => {
      authenticated.addHook('onRequest', authenticated.authenticate)
      authenticated.addHook('onRequest', authenticated.limitUser)
      await authenticated.register(usersRoutes, { prefix: '/users', users })
      await authenticated.register(accountRoutes, { prefix: '/users', account: accountService(config, { db: app.db, users, codes }) })
      await authenticated.register(profileRoutes, { prefix: '/profile', addresses: addressesRepository(app.db) })
    }, { prefix: '/api/v1' })
  })
  await app.register(healthRoutes, { prefix: '/health', clock })
  if (overrides.routes) await app.register(overrides.routes)

  refuseOtherMethods(app, allowed)
  if (['debug', 'trace'].includes(config.logLevel)) {
    app.addHook('onResponse', async (request, reply) => {
      if (reply.statusCode < 500) request.log.debug({ event: 'answer', status: reply.statusCode, method: request.method, route: request.routeOptions.url, request_id: request.id })
    })
  }
  return app
}
