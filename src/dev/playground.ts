import { fileURLToPath } from 'node:url'
import files from '@fastify/static'
import type { FastifyPluginAsync, FastifyRequest, onRequestHookHandler } from 'fastify'
import { Type } from 'typebox'
import type { SmsMessage, SmsSender } from '../messages/index.js'
import { canonicalAddress } from '../http/client-ip.js'
import { Problem } from '../http/problems.js'
import pageSecurity from '../plugins/page-security.js'

const root = fileURLToPath(new URL('../../playground', import.meta.url))
const userQuery = { hide: true, querystring: Type.Object({ phone: Type.Optional(Type.String({ format: 'text' })) }) }
/** Messages that the inbox keeps. */
const inboxSize = 20

/** Headers by which a proxy says that it forwards a request. */
const forwarding = /^(forwarded|via|x-(forwarded|original|real)\b.*|(.*-)?(client|connecting)-ip)$/

/**
 * Whether a request comes from this machine: from loopback, through no proxy, and with a loopback name as its host. The
 * name stops pages of other sites that point their own host name to this machine (DNS rebinding).
 */
const isLocal = ({ socket, headers }: FastifyRequest) =>
  /^(127\.|::1$)/.test(canonicalAddress(String(socket.remoteAddress)) ?? '') &&
  !Object.keys(headers).some((name) => forwarding.test(name)) &&
  /^(localhost|127\.0\.0\.1|\[::1\])(:\d+)?$/i.test(headers.host ?? '')

const onlyLocal: onRequestHookHandler = (request, reply, done) => {
  reply.header('cache-control', 'no-store')
  done(isLocal(request) ? undefined : new Problem('not_found'))
}

/**
 * The playground for development: a page at / on which to sign in. For this machine only, GET /dev/inbox returns the
 * messages sent with `send`, the newest first, and GET /dev/user?phone=… the row of a number in E.164.
 */
export function playground (send: SmsSender): { sms: SmsSender, routes: FastifyPluginAsync } {
  const messages: SmsMessage[] = []
  return {
    async sms (message, context) {
      await send(message, context)
      messages.unshift(message)
      messages.length = Math.min(messages.length, inboxSize)
    },

    async routes (app) {
      await app.register(pageSecurity)
      await app.register(files, { root, wildcard: false })
      app.get('/dev/inbox', { onRequest: onlyLocal }, () => ({ messages }))
      const userRoute = { onRequest: onlyLocal, schema: userQuery }
      app.get<{ Querystring: { phone?: string } }>('/dev/user', userRoute, async ({ query }) => {
        const { rows: [found] } = await app.db.pool.query(
          'SELECT to_jsonb(users) AS row FROM users WHERE phone_number = $1', [query.phone])
        return { row: found?.row ?? null }
      })
    }
  }
}
