import type { FastifyInstance } from 'fastify'
import { Problem } from './problems.js'

/** Collects the methods of every path that is registered from now on. */
export function methodsByPath (app: FastifyInstance) {
  const paths = new Map<string, Set<string>>()
  app.addHook('onRoute', ({ url, method }) => {
    const methods = paths.get(url) ?? new Set()
    for (const one of [method].flat()) methods.add(one)
    paths.set(url, methods)
  })
  return paths
}

/** Responds 405 with Allow (RFC 9110, section 15.5.6) to every other method of a known path, before a body is read. */
export function refuseOtherMethods (app: FastifyInstance, paths: Map<string, Set<string>>) {
  for (const [url, methods] of [...paths]) {
    // If a path matches with and without a trailing slash, Fastify announces its GET for one of the two only.
    if (app.hasRoute({ method: 'GET', url })) methods.add('GET')
    const allow = [...methods].join(', ')
    const method = app.supportedMethods.filter((one) => !methods.has(one))
    const refuse = () => { throw new Problem('method_not_allowed', { allow }) }
    if (method.length > 0) app.route({ method, url, onRequest: refuse, handler: refuse })
  }
}
