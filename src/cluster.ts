import cluster, { type Worker } from 'node:cluster'
import { pino } from 'pino'
import type { Config } from './config.js'
import { loggerOptions } from './logger.js'

/**
 * Runs `config.webConcurrency` workers of this process on one port (node:cluster), starts another one for each that dies,
 * and ends them all on SIGTERM or SIGINT. A worker that cannot even start ends the whole service with exit code 1.
 */
export function superviseWorkers (config: Config) {
  const log = pino(loggerOptions(config.logLevel))
  const listening = new Set<number>()
  let exitCode = 0
  let isStopping = false

  // In development the secret may be made at the start: all workers need the same one.
  const fork = () => cluster.fork({ JWT_SECRET: config.jwtSecret })
  const workers = () => Object.values(cluster.workers ?? {}) as Worker[]
  const stop = () => {
    isStopping = true
    for (const worker of workers()) worker.kill('SIGTERM')
  }

  cluster.on('listening', ({ id }) => { listening.add(id) })
  cluster.on('exit', (worker, code, signal) => {
    if (isStopping) {
      exitCode ||= code
      if (workers().length === 0) process.exit(exitCode)
    } else if (listening.has(worker.id)) {
      log.error({ event: 'worker_died', worker: worker.process.pid, code, signal }, 'a worker died, another one starts')
      fork()
    } else {
      exitCode = 1
      stop()
      if (workers().length === 0) process.exit(exitCode)
    }
  })
  process.on('SIGTERM', stop)
  process.on('SIGINT', stop)
  for (let i = 0; i < config.webConcurrency; i++) fork()
}
