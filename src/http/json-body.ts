import type { IncomingMessage } from 'node:http'
import type { FastifyInstance, FastifyRequest } from 'fastify'
import { problem } from './problems.js'

const isAnnouncedEmpty = ({ headers }: IncomingMessage) =>
  headers['transfer-encoding'] === undefined && !(Number(headers['content-length']) > 0)

/**
 * Reads bodies as JSON in UTF-8 (RFC 8259, section 8.1), which Fastify would repair where it is broken. An empty body is no body,
 * whatever its Content-Type says (CONTRACT, section 4): HTTP clients set one on every request.
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
      return done(problem('bad_request'))
    }
    parse(request, text, done)
  })
  // The first byte of a chunked body shows that it is not empty. The rest is not read.
  app.addContentTypeParser('*', ({ raw }: FastifyRequest, payload: IncomingMessage) => new Promise((resolve, reject) => {
    const refuse = () => reject(problem('unsupported_media_type'))
    if (Number(raw.headers['content-length']) > 0) refuse()
    else payload.once('data', refuse).once('end', resolve).once('error', reject)
  }))
  // Fastify looks at the type first, and refuses one that is malformed before any parser sees it.
  app.addHook('preParsing', ({ raw }, _reply, _payload, done) => {
    if (isAnnouncedEmpty(raw)) delete raw.headers['content-type']
    done()
  })
}
