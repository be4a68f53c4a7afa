import helmet from '@fastify/helmet'
import fp from 'fastify-plugin'

/**
 * Security headers for a scope of pages that load from nowhere else and that no other page may frame. `styleHashes` names
 * the style elements that they bring.
 */
export default fp<{ styleHashes?: string[] }>(async (app, { styleHashes = [] }) => {
  await app.register(helmet, {
    contentSecurityPolicy: {
      useDefaults: false,
      directives: {
        defaultSrc: ["'none'"],
        scriptSrc: ["'self'"],
        styleSrc: ["'self'", ...styleHashes],
        imgSrc: ["'self'", 'data:'],
        connectSrc: ["'self'"],
        baseUri: ["'none'"],
        formAction: ["'none'"],
        frameAncestors: ["'none'"]
      }
    },
    xFrameOptions: { action: 'deny' },
    // Whether a host is reached by TLS alone is for its gateway to say.
    strictTransportSecurity: false
  })
}, { name: 'page-security' })
