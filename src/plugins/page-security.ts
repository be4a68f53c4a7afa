import helmet from '@fastify/helmet'
import fp from 'fastify-plugin'

/**
 * Security headers for a scope of pages that load only from their own origin and that no other page may frame.
 * `styleHashes` lists the hashes of their style elements.
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
    // Only the gateway knows whether its host uses TLS alone.
    strictTransportSecurity: false
  })
}, { name: 'page-security' })
