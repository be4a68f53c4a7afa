import cluster, { type Worker } from 'node:cluster'
import { pino } from 'pino'
import { AggregatorRegistry, type Registry } from 'prom-client'
import type { Config } from '../config/index.js'
import { loggerOptions } from '../monitoring/logger.js'
import { serveMetrics } from './metrics-listener.js'

const stopSignals = ['SIGINT', 'SIGTERM'] as const
type StopSignal = typeof stopSignals[number]

/** A signal that follows another one sooner is the same one once more, in milliseconds (CONTRACT, section 2). */
const repeatMs = 1000

/**
 * Calls `stop` at SIGINT and SIGTERM, once for all signals within a second: a signal to a process group reaches this process
 * directly and again through npm. A worker hears of signals from its primary alone, because its group receives them too.
 */
export function onStopSignal (stop: (signal: StopSignal) => void) {
  let isRepeat = false
  const receive = (signal: StopSignal) => {
    if (isRepeat) return
    isRepeat = true
    // The event loop may have been blocked meanwhile. It then runs timers first, signals next and immediates last.
    setTimeout(() => setImmediate(() => { isRepeat = false }), repeatMs).unref()
    stop(signal)
  }
  for (const signal of stopSignals) process.on(signal, () => { if (cluster.isPrimary) receive(signal) })
  if (cluster.isWorker) process.on('message', (message) => { for (const signal of stopSignals) if (message === signal) stop(signal) })
}

/** Has a worker answer its primary, which adds the metrics of all workers up. */
export function offerMetrics (registry: Registry) {
  AggregatorRegistry.setRegistries(registry)
  return new AggregatorRegistry()
}

/**
 * Runs `config.webConcurrency` workers of this process on one port (node:cluster) and starts another one for each that
 * dies; METRICS_PORT shows the sum over them. Ends with the last of them after a signal to stop, or with 1 if not even the
 * first one could start. Throws where METRICS_PORT cannot be had.
 */
export async function superviseWorkers (config: Config): Promise<void> {
  const log = pino(loggerOptions(config.logLevel))
  const workers = new Set<Worker>()
  let isUp = false
  let stopping: StopSignal | undefined
  let exitCode = 0

  // A key that is made at the start must be the same in all workers. JWT_SECRET_FILE beside it would be an error.
  const fork = () => workers.add(cluster.fork({ JWT_SECRET: config.jwtSecret, JWT_SECRET_FILE: '' }))
  // One that has just died cannot be told, and need not be.
  const tell = (worker: Worker, signal: StopSignal) => worker.send(signal, () => {})

  cluster.on('listening', (worker) => {
    isUp = true
    // While it started it did not hear.
    if (stopping) return tell(worker, stopping)
    for (let missing = config.webConcurrency - workers.size; missing > 0; missing--) fork()
  })
  cluster.on('exit', (worker, code, signal) => {
    workers.delete(worker)
    if (isUp && !stopping) {
      log.error({ event: 'worker_died', worker: worker.process.pid, code, signal }, 'a worker died, another one takes its place')
      return fork()
    }
    // A signal to stop kills only one that was still starting when its whole group got it.
    if (!stopSignals.some((stop) => stop === signal)) exitCode ||= signal ? 1 : code
    if (workers.size === 0) process.exit(exitCode)
  })
  onStopSignal((signal) => {
    stopping = signal
    for (const worker of workers) tell(worker, signal)
  })
  const registry = new AggregatorRegistry()
  await serveMetrics(config, () => registry.clusterMetrics())
  // The first one alone: what keeps it from starting is told once.
  fork()
}
