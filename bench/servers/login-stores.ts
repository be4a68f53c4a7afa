import Fastify from 'fastify'
import { newNonce, phoneKey } from '../../src/auth/codes/code.js'
import { redisCodeStore } from '../../src/auth/codes/store.redis.js'
import { pumpingGuard } from '../../src/messages/pumping-guard.js'
import { loadConfig } from '../../src/config/index.js'
import { keyedDigest } from '../../src/redis/keyed-digest.js'
import { guessLimit, redisGuessStore } from '../../src/limits/guesses.js'
import database from '../../src/plugins/database.js'
import metrics from '../../src/plugins/metrics.js'
import rateLimit from '../../src/limits/by-ip.js'
import redis from '../../src/plugins/redis.js'
import { usersRepository } from '../../src/users/repository.js'
import { ready, setup } from '../harness/child.js'
import { loop } from '../harness/loop.js'

/* The statements and commands of a login, in the same order, without HTTP, codes and tokens. */
const { users: total, firstPhone } = setup as { users: number, firstPhone: number }
const config = loadConfig(process.env)
const app = Fastify()
await app.register(database, config.database)
await app.register(redis, { connection: config.redis })
await app.register(metrics, config.metrics)
await app.register(rateLimit, { ...config.ipLimit, secrets: config.codeSecrets, trustProxy: config.server.trustProxy })
await app.ready()
if (!app.redis) throw new Error('no Redis')

const users = usersRepository(app.db)
const guard = pumpingGuard(app.redis, config.pumpingGuard, config.codeSecrets)
const guesses = guessLimit(redisGuessStore(app.redis), config.codeSecrets, config.ipLimit.guessesPerHour)
const codes = redisCodeStore(app.redis, config.codes)
const limiter = app.redis as unknown as { rateLimit (key: string, windowMs: number, max: number, ...more: boolean[]): Promise<unknown> }
const limitKey = `address:${keyedDigest(config.codeSecrets.current, 'address', '127.0.0.1')}`
const { max, windowSeconds } = config.ipLimit
const limitAddress = () => limiter.rateLimit(limitKey, windowSeconds * 1000, max, false, false)
const client = await guard.clientGroup('127.0.0.1')
const digest = 'x'.repeat(22)
let next = 0

async function login () {
  const phone = `+${firstPhone + next++ % total}`
  const key = phoneKey(config.codeSecrets.current, phone)
  await limitAddress()
  await users.findByPhone(phone)
  await codes.issue(key, { nonce: newNonce(), digest }, Date.now())
  await guard.admit({ phone, market: 'kg', client, now: Date.now(), isKnown: true })
  await limitAddress()
  const guess = await guesses.begin('127.0.0.1', Date.now())
  if (!guess.isAdmitted) throw new Error('the guess was not admitted')
  const { status } = await codes.redeem(key, digest, Date.now())
  if (status !== 'right') throw new Error(`the code was ${status}`)
  await Promise.all([users.login(phone, 'kg'), guess.settle('right')])
}

ready({}, (question: { connections: number, seconds: number }) => loop(question, login))
