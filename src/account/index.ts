import type { FastifyPluginAsyncTypebox } from '@fastify/type-provider-typebox'
import { deleteUserSchema } from './schemas.js'
import type { AccountService } from './service.js'

interface Options { account: AccountService }

/** The routes of a whole account, below /users; their scope adds `authenticate`. */
export const accountRoutes: FastifyPluginAsyncTypebox<Options> = async (app, { account }) => {
  app.delete('/me', { schema: deleteUserSchema }, async (request, reply) => {
    await account.deleteAccount(request.user.id, app.audit.bind(null, request))
    return reply.code(204).send(null)
  })
}
