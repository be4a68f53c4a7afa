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
import { memoryRevocations, redisRevocations, type Revocations } from './auth/tokens/revocations.js'
import { leewaySeconds } from './auth/tokens/token.js'
import type { Config } from './config/index.js'
import { healthRoutes } from './health/index.js'
import { readJson } from './http/json-body.js'
import { methodsByPath, refuseOtherMethods } from './http/method-not-allowed.js'
import { noStore } from './http/no-store.js'
import { Problem } from './http/problems.js'
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

/** A Fastify instance with all bounds on requests, bodies and connections, but without stores and routes. */
async function createApp ({ server }: Config, { logStream }: Overrides) {
  const bodies = unfinishedBodies()
  const connections = connectionLimits(bodies)
  const app = Fastify({
    ...serverOptions(server.trustProxy),
    logger: { ...loggerOptions(server.logLevel), ...(logStream && { stream: logStream }) },
    rewriteUrl: ({ url }) => withoutForwardedPath(url as string),
    frameworkErrors: (error, request, reply) => {
      if (openRefusal(server, request, reply)) return
      sendProblem(error.code === 'FST_ERR_MAX_PARAM_LENGTH' ? new Problem('not_found') : error, request, reply)
    },
    serverFactory: (handle) => createServer(connections.guard(handle, (err) => {
      app.log.error({ event: 'error', err }, 'a request could not be handled, its connection is closed')
    })),
    clientErrorHandler: (error, socket) =>
      respondToUnreadable(error, socket as Socket, connections.canRespond(socket as Socket))
  }).withTypeProvider<TypeBoxTypeProvider>()

  for (const method of http.METHODS) {
    if (!app.supportedMethods.includes(method)) app.addHttpMethod(method)
  }
  readJson(app)
  await app.register(problems)
  await app.register(drain)
  if (server.corsOrigins.length > 0) await app.register(cors, server)
  app.addHook('onRequest', refuseUnknownPath)
  return { app, bodies }
}

/** The repositories and flows of the features, on the connections of the instance. */
function services ({ db, redis }: FastifyInstance, config: Config, overrides: Overrides, revocations: Revocations) {
  const { codeSecrets: secrets, codes: limits, ipLimit, marketDailyMax, phones } = config
  const users = usersRepository(db)
  const codes = redis ? redisCodeStore(redis, limits) : memoryCodeStore(limits)
  const { sessionMaxSeconds } = config.tokens
  const auth = authService({ phones, message: config.message, secrets, sessionMaxSeconds }, {
    db,
    users,
    codes,
    revocations,
    guesses: guessLimit(redis ? redisGuessStore(redis) : memoryGuessStore(), secrets, ipLimit.guessesPerHour),
    guard: redis && config.pumpingGuard.mode !== 'off' ? pumpingGuard(redis, config.pumpingGuard, secrets) : undefined,
    daily: redis && marketDailyMax ? dailyMessages(redis, secrets, marketDailyMax) : undefined,
    sms: overrides.sms ?? smsSender(config.provider),
    clock: overrides.clock ?? Date.now,
    newNonce: overrides.newNonce ?? newNonce
  })
  const account = accountService({ testPhones: phones.testPhones, secrets }, { db, users, codes })
  return { auth, users, account, addresses: addressesRepository(db) }
}

/** The whole service, not yet listening. The order of registration is a security property. */
export async function buildApp (config: Config, overrides: Overrides = {}): Promise<FastifyInstance> {
  const clock = overrides.clock ?? Date.now
  const { app, bodies } = await createApp(config, overrides)
  const allowed = methodsByPath(app)

  // Without DOCS the documents do not even cost the time to load them.
  if (config.server.hasDocs) await app.register((await import('./plugins/openapi.js')).default)
  await app.register(database, config.database)
  await app.register(redis, { connection: config.redis })
  await app.register(metrics, config.metrics)
  boundBodies(app, bodies)
  const { codeSecrets: secrets, server: { trustProxy } } = config
  await app.register(rateLimit, { ...config.ipLimit, secrets, trustProxy })
  await app.register(limitUser, config.userLimit)
  const revocations = app.redis
    ? redisRevocations(app.redis, config.tokens.sessionMaxSeconds + leewaySeconds)
    : memoryRevocations()
  await app.register(authenticate, { ...config.tokens, revocations, clock })
  const { auth, users, account, addresses } = services(app, config, overrides, revocations)

  // All routes but the probes, which respond under any load.
  await app.register(async (loaded) => {
    shedLoad(loaded)
    loaded.addHook('onRequest', noStore)
    for (const prefix of ['/api/v1/auth', '/auth']) {
      await loaded.register(authRoutes, { prefix, auth, resendSeconds: config.codes.resendMs / 1000 })
      await loaded.register(forwardAuthRoutes, { prefix })
    }
    // The one scope whose routes need a signed-in user.
    await loaded.register(async (authenticated) => {
      authenticated.addHook('onRequest', authenticated.authenticate)
      authenticated.addHook('onRequest', authenticated.limitUser)
      await authenticated.register(usersRoutes, { prefix: '/users', users })
      await authenticated.register(accountRoutes, { prefix: '/users', account })
      await authenticated.register(profileRoutes, { prefix: '/profile', addresses })
    }, { prefix: '/api/v1' })
  })
  await app.register(healthRoutes, { prefix: '/health', clock })
  if (overrides.routes) await app.register(overrides.routes)

  refuseOtherMethods(app, allowed)
  if (['debug', 'trace'].includes(config.server.logLevel)) logResponses(app)
  return app
}

/** Logs every response below 500 at `debug`; the error handler logs the others. */
function logResponses (app: FastifyInstance) {
  app.addHook('onResponse', async ({ log, method, routeOptions, id }, { statusCode: status }) => {
    if (status < 500) log.debug({ event: 'answer', status, method, route: routeOptions.url, request_id: id })
  })
}
