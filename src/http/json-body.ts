import type { IncomingMessage } from 'node:http'
import type { FastifyInstance, FastifyRequest } from 'fastify'
import { Problem } from './problems.js'

const isAnnouncedEmpty = ({ headers }: IncomingMessage) =>
  headers['transfer-encoding'] === undefined && !(Number(headers['content-length']) > 0)

/**
 * Reads bodies as JSON in UTF-8 (RFC 8259, section 8.1); Fastify's own parser would repair broken UTF-8. An empty body
 * counts as no body, whatever its Content-Type says (CONTRACT, section 4): HTTP clients set a Content-Type on every
 * request.
 */
export function readJson (app: FastifyInstance) {
  const parse = app.getDefaultJsonParser('error', 'error')
  const utf8 = new TextDecoder('utf-8', { fatal: true })
  app.removeAllContentTypeParsers()
  app.addContentTypeParser<Buffer>('application/json', { parseAs: 'buffer' }, (request, body, done) => {
    if (body.length === 0) return done(null, undefined)
    let text: string
    try {
      text = utf8.decode(body)
    } catch {
      return done(new Problem('bad_request'))
    }
    parse(request, text, done)
  })
  // The first byte of a chunked body shows that it is not empty. The rest is not read.
  const refuseContent = ({ raw }: FastifyRequest, payload: IncomingMessage) => new Promise((resolve, reject) => {
    const refuse = () => reject(new Problem('unsupported_media_type'))
    if (Number(raw.headers['content-length']) > 0) refuse()
    else payload.once('data', refuse).once('end', resolve).once('error', reject)
  })
  app.addContentTypeParser('*', refuseContent)
  // Fastify checks the type first, and refuses a malformed one before any parser runs.
  app.addHook('preParsing', ({ raw }, _reply, _payload, done) => {
    if (isAnnouncedEmpty(raw)) delete raw.headers['content-type']
    done()
  })
}
