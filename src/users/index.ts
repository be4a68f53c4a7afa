import type { FastifyPluginAsyncTypebox } from '@fastify/type-provider-typebox'
import type { FastifyRequest } from 'fastify'
import { problem } from '../http/problems.js'
import type { User, UsersRepository } from './repository.js'
import { deleteUserSchema, getUserSchema, patchUserSchema, userView } from './schemas.js'

interface Options {
  users: UsersRepository
  /** Deletes the account of the user who sent the request. */
  deleteAccount: (request: FastifyRequest) => Promise<void>
}

/** Throws invalid_token if the row was deleted after `authenticate` found it. */
const viewOrInvalid = (user: User | undefined) => {
  if (!user) throw problem('invalid_token')
  return userView(user)
}

/** The routes of /users, for a scope that authenticates. */
export const usersRoutes: FastifyPluginAsyncTypebox<Options> = async (app, { users, deleteAccount }) => {
  app.get('/me', { schema: getUserSchema }, async ({ user }) => viewOrInvalid(await users.findById(user.id)))

  app.patch('/me', { schema: patchUserSchema }, async ({ user, body }) =>
    viewOrInvalid(await users.update(user.id, {
      fullName: body.full_name,
      profileImageUrl: body.profile_image_url,
      language: body.language
    })))

  app.delete('/me', { schema: deleteUserSchema }, async (request, reply) => {
    await deleteAccount(request)
    return reply.code(204).send(null)
  })
}
