import type { FastifyInstance } from 'fastify'
import { problem } from '../errors.js'

/** Gathers every path that is registered from now on. */
export function registeredPaths (app: FastifyInstance) {
  const paths = new Set<string>()
  app.addHook('onRoute', ({ url }) => { paths.add(url) })
  return paths
}

/** Answers 405 with Allow (RFC 9110, section 15.5.6) to every other method of a known path, before a body is read. */
export function refuseOtherMethods (app: FastifyInstance, paths: Set<string>) {
  for (const url of [...paths]) {
    const methods = app.supportedMethods.filter((method) => app.hasRoute({ method, url }))
    const allow = methods.join(', ')
    const method = app.supportedMethods.filter((one) => !methods.includes(one))
    const refuse = () => { throw problem('method_not_allowed', { allow }) }
    if (method.length > 0) app.route({ method, url, onRequest: refuse, handler: refuse })
  }
}
