import type { FastifyPluginAsyncTypebox } from '@fastify/type-provider-typebox'
import { Problem } from '../http/problems.js'
import type { User, UsersRepository } from './repository.js'
import { getUserSchema, patchUserSchema, userView } from './schemas.js'

interface Options { users: UsersRepository }

/** Throws invalid_token if the row was deleted after `authenticate` found it. */
const viewOrInvalid = (user: User | undefined) => {
  if (!user) throw new Problem('invalid_token')
  return userView(user)
}

/** The routes of /users, for a scope that authenticates. */
export const usersRoutes: FastifyPluginAsyncTypebox<Options> = async (app, { users }) => {
  app.get('/me', { schema: getUserSchema }, async ({ user }) => viewOrInvalid(await users.findById(user.id)))

  app.patch('/me', { schema: patchUserSchema }, async ({ user, body }) =>
    viewOrInvalid(await users.update(user.id, {
      fullName: body.full_name,
      profileImageUrl: body.profile_image_url,
      language: body.language
    })))
}
