import type { AddressInfo } from 'node:net'
import jwt from '@fastify/jwt'
import Fastify from 'fastify'
import { verifyTokenSchema } from '../../src/auth/tokens/forward-auth.js'
import { ready } from '../harness/child.js'

/* What most services do: the JWT plugin verifies the token, and nothing checks whether the user is still signed in. */
const app = Fastify()
await app.register(jwt, { secret: process.env.JWT_SECRET as string, verify: { algorithms: ['HS256'] } })

app.get('/auth/verify-token', {
  schema: verifyTokenSchema,
  onRequest: async (request) => { await request.jwtVerify() }
}, async (request, reply) => {
  const { user_id: id, market } = request.user as unknown as { user_id: number, market: string }
  reply.header('x-user-id', id).header('x-user-market', market)
  return { valid: true, user_id: id, market }
})

await app.listen({ host: '127.0.0.1', port: 0 })
ready({ port: (app.server.address() as AddressInfo).port })
