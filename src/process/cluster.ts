import cluster, { type Worker } from 'node:cluster'
import { pino } from 'pino'
import { AggregatorRegistry, type Registry } from 'prom-client'
import type { Config } from '../config/index.js'
import { loggerOptions } from '../monitoring/logger.js'
import { serveMetrics } from './metrics-listener.js'

const stopSignals = ['SIGINT', 'SIGTERM'] as const
type StopSignal = typeof stopSignals[number]

/** A signal that follows another one within this time, in milliseconds, is its repetition (CONTRACT, section 2). */
const repeatMs = 1000

/**
 * Calls `stop` at SIGINT and SIGTERM, once for all signals within a second: a signal to a process group reaches this
 * process directly and again through npm. A worker acts only on signals that its primary forwards, because its process
 * group receives them, too.
 */
export function onStopSignal (stop: (signal: StopSignal) => void) {
  let isRepeat = false
  const receive = (signal: StopSignal) => {
    if (isRepeat) return
    isRepeat = true
    // After a blocked second, the event loop runs timers first, then signals, and immediates last: these signals
    // repeat, too.
    setTimeout(() => setImmediate(() => { isRepeat = false }), repeatMs).unref()
    stop(signal)
  }
  for (const signal of stopSignals) process.on(signal, () => { if (cluster.isPrimary) receive(signal) })
  if (cluster.isWorker) {
    process.on('message', (message) => { for (const signal of stopSignals) if (message === signal) stop(signal) })
  }
}

/** Makes a worker send its metrics to its primary on request. The primary adds up the metrics of all workers. */
export function offerMetrics (registry: Registry) {
  AggregatorRegistry.setRegistries(registry)
  return new AggregatorRegistry()
}

/**
 * Runs `config.server.workers` workers on one port (node:cluster), and replaces each one that dies. METRICS_PORT shows
 * the sum over all workers. After a stop signal the process exits with its last worker. It exits with 1 if not even the
 * first worker starts. Throws if METRICS_PORT is not available.
 */
export async function superviseWorkers (config: Config): Promise<void> {
  const log = pino(loggerOptions(config.server.logLevel))
  const workers = new Set<Worker>()
  let isUp = false
  let stopping: StopSignal | undefined
  let exitCode = 0

  // A key that is generated at start must be the same in all workers. JWT_SECRET_FILE beside it would be an error.
  const fork = () => workers.add(cluster.fork({ JWT_SECRET: config.tokens.secret, JWT_SECRET_FILE: '' }))
  // The callback ignores the error of a worker that has just died.
  const forward = (worker: Worker, signal: StopSignal) => worker.send(signal, () => {})

  cluster.on('listening', (worker) => {
    isUp = true
    // The worker had no handler while it was starting: send the signal again.
    if (stopping) return forward(worker, stopping)
    for (let missing = config.server.workers - workers.size; missing > 0; missing--) fork()
  })
  cluster.on('exit', (worker, code, signal) => {
    workers.delete(worker)
    if (isUp && !stopping) {
      log.error({ event: 'worker_died', worker: worker.process.pid, code, signal },
        'a worker died, another one takes its place')
      return fork()
    }
    // A stop signal kills only a worker that was still starting when the whole process group received the signal.
    if (!stopSignals.some((stop) => stop === signal)) exitCode ||= signal ? 1 : code
    if (workers.size === 0) process.exit(exitCode)
  })
  onStopSignal((signal) => {
    stopping = signal
    for (const worker of workers) forward(worker, signal)
  })
  const registry = new AggregatorRegistry()
  await serveMetrics(config.metrics, () => registry.clusterMetrics())
  // The first worker starts alone, so that an error at start is printed once.
  fork()
}
