import { Redis } from 'ioredis'
import { newNonce, phoneKey } from '../src/auth/codes/code.js'
import { redisCodeStore } from '../src/auth/codes/store.redis.js'
import { atEnd } from './harness/ending.js'
import { startLoad } from './harness/load.js'
import { inTurn, serving } from './harness/measure.js'
import { firstPhone, type Stores } from './harness/stores.js'
import { figure, ratio, type Row } from './harness/table.js'

const fewUsers = 1000
const manyUsers = 1_000_000
const fewNumbers = 1000
const manyNumbers = 200_000
const numbersAtOnce = 500

/** How latency grows with the number of users, and Redis memory with the number of live codes. */
export async function growth (stores: Stores): Promise<Row[]> {
  const bytesPerUser: number[] = []
  const contender = async (users: number) => {
    const seeded = await stores.seed(users)
    bytesPerUser.push(await stores.bytesOfUsers(seeded) / users)
    return serving(await startLoad('/auth/verify-token', seeded), 'servers/service', seeded.env)
  }
  const { many, few } = await inTurn({ many: await contender(manyUsers), few: await contender(fewUsers) })
  const latencies = (percentile: 'p50' | 'p99', bar: string) => ratio(`guarded ${percentile}, 1,000,000 ÷ 1,000 users`, 'ms', bar,
    many.map((round) => round[percentile]), few.map((round) => round[percentile]))
  return [
    latencies('p50', ''),
    latencies('p99', '≤ 1.2'),
    figure('PostgreSQL for a user, with indexes', 'bytes', '', bytesPerUser),
    ...await bytesPerNumber(new Redis(stores.redisUrl))
  ]
}

async function bytesPerNumber (redis: Redis): Promise<Row[]> {
  atEnd(() => redis.disconnect())
  const codes = redisCodeStore(redis, { ttlMs: 300_000, resendMs: 60_000, sendsPerHour: 5, sendsPerDay: 10, maxAttempts: 5, guessesPerDay: 50 })
  const usedMemory = async () => Number(/used_memory:(\d+)/.exec(await redis.info('memory'))?.[1])
  const digest = 'x'.repeat(22)
  let numbers = 0
  const issue = async (total: number) => {
    while (numbers < total) {
      await Promise.all(Array.from({ length: numbersAtOnce }, () =>
        codes.issue(phoneKey('secret', `+${firstPhone + numbers++}`), { nonce: newNonce(), digest }, Date.now())))
    }
  }
  // The script and the buffers of the connection belong to no phone number.
  await issue(numbersAtOnce)
  await redis.flushdb()
  numbers = 0
  const empty = await usedMemory()

  const rows: Row[] = []
  for (const total of [fewNumbers, manyNumbers]) {
    await issue(total)
    const bytes = (await usedMemory() - empty) / total
    rows.push(figure(`Redis for a number, at ${total.toLocaleString('en')}`, 'bytes', '≤ 350', [bytes]))
  }
  return rows
}
