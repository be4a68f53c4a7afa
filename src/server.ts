import cluster from 'node:cluster'
import { superviseWorkers } from './process/cluster.js'
import { loadConfig } from './config/index.js'
import { serve } from './process/serve.js'
import { explain, fail } from './process/startup-errors.js'

try {
  const config = loadConfig(process.env)
  if (config.server.workers > 1 && cluster.isPrimary) {
    await superviseWorkers(config)
  } else {
    const { app } = await serve(config)
    for (const warning of config.warnings) app.log.warn({ event: 'config' }, warning)
  }
} catch (error) {
  fail(...explain(error))
}
