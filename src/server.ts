import { loadConfig } from './config.js'
import { explain, fail, serve } from './serve.js'

try {
  const config = loadConfig(process.env)
  const { app } = await serve(config)
  if (config.isProduction && config.isCodeSecretDerived) {
    app.log.warn({ event: 'config' }, 'CODE_SECRET is not set: it is derived from JWT_SECRET, and a new JWT_SECRET forgets pending codes')
  }
} catch (error) {
  fail(...explain(error))
}
