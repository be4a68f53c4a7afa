import cluster from 'node:cluster'
import type { AddressInfo } from 'node:net'
import closeWithGrace from 'close-with-grace'
import type { FastifyInstance } from 'fastify'
import { buildApp, type Overrides } from '../app.js'
import { offerMetrics, onStopSignal } from './cluster.js'
import type { Config } from '../config/index.js'
import { serveMetrics } from './metrics-listener.js'
import { catchLibraryWarnings } from './library-warnings.js'

/** Longest time from the end of the drain to the end of the process, in milliseconds; then the process is ended. */
const closeDelayMs = 15_000

/**
 * Builds the service and listens. SIGTERM drains the service, and a second signal aborts the wait for clients to go
 * elsewhere. SIGINT comes from a person at a terminal and skips that wait. In each case requests in flight finish
 * before the process ends. Returns the service and the port on which it listens.
 */
export async function serve (
  config: Config, overrides: Overrides = {}, onClosed = async () => {}
): Promise<{ app: FastifyInstance, port: number }> {
  const sendWarningsTo = catchLibraryWarnings()
  const app = await buildApp(config, overrides)
  sendWarningsTo(app.log)
  const abort = new AbortController()
  const delay = config.server.drainSeconds * 1000 + closeDelayMs
  const { close } = closeWithGrace({ delay, logger: false, skip: ['SIGINT', 'SIGTERM'] }, async ({ err }) => {
    if (err) {
      app.log.fatal({ event: 'crash', err }, 'uncaught error, shutting down')
      abort.abort()
    }
    await app.drain(config.server.drainSeconds, abort.signal)
    await app.close()
    await onClosed()
  })
  let isClosing = false
  onStopSignal((signal) => {
    if (signal === 'SIGINT' || isClosing) abort.abort()
    if (!isClosing) close()
    isClosing = true
  })
  if (cluster.isWorker) offerMetrics(app.metrics)
  else await serveMetrics(config.metrics, () => app.metrics.metrics())
  await app.listen({ host: config.server.host, port: config.server.port })
  return { app, port: (app.server.address() as AddressInfo).port }
}
