import cluster from 'node:cluster'
import { superviseWorkers } from './cluster.js'
import { loadConfig } from './config.js'
import { serve } from './serve.js'
import { explain, fail } from './start-errors.js'

try {
  const config = loadConfig(process.env)
  if (config.webConcurrency > 1 && cluster.isPrimary) {
    await superviseWorkers(config)
  } else {
    const { app } = await serve(config)
    if (config.isProduction && config.isCodeSecretDerived) {
      app.log.warn({ event: 'config' }, 'CODE_SECRET is not set: it is derived from JWT_SECRET, and a new JWT_SECRET forgets pending codes')
    }
  }
} catch (error) {
  fail(...explain(error))
}
