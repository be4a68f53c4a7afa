import { createHistogram, performance } from 'node:perf_hooks'
import { mint } from '../../test/helpers/forge.js'
import { ready, setup } from './child.js'
import { openConnection } from './connection.js'

/*
 * The load generator: signed-in users ask for `path`, each connection again as soon as it has its answer. Requests are
 * built beforehand, each with the token of some user, as building them would take longer than the server does.
 */
export interface LoadSetup { path: string, secret: string, users: number, issuedAt: number }
export interface LoadQuestion { port: number, connections: number, seconds: number }

const tokenLifeSeconds = 1800
const tokens = 64_000

const { path, secret, users, issuedAt } = setup as LoadSetup
const requests = Array.from({ length: tokens }, () => {
  const claims = { user_id: 1 + Math.floor(Math.random() * users), market: 'kg', iat: issuedAt, exp: issuedAt + tokenLifeSeconds }
  return Buffer.from(`GET ${path} HTTP/1.1\r\nHost: 127.0.0.1\r\nAuthorization: Bearer ${mint(claims, secret)}\r\n\r\n`)
})

async function round ({ port, connections, seconds }: LoadQuestion) {
  const latency = createHistogram()
  const before = performance.eventLoopUtilization()
  const start = performance.now()
  const end = start + seconds * 1000
  let count = 0
  await Promise.all(Array.from({ length: connections }, (_, index) => new Promise<void>((resolve) => {
    let next = Math.floor(index * tokens / connections)
    let sentAt = performance.now()
    const connection = openConnection(port, () => {
      const now = performance.now()
      latency.record(Math.max(1, Math.round((now - sentAt) * 1000)))
      count++
      if (now < end) {
        send(now)
      } else {
        connection.close()
        resolve()
      }
    })
    const send = (now: number) => {
      sentAt = now
      connection.send(requests[next++ % tokens] as Buffer)
    }
    send(sentAt)
  })))
  return {
    count,
    perSecond: count * 1000 / (performance.now() - start),
    p50: latency.percentile(50) / 1000,
    p99: latency.percentile(99) / 1000,
    busy: performance.eventLoopUtilization(before).utilization
  }
}

ready({}, round)
