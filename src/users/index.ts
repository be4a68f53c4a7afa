import type { FastifyPluginAsyncTypebox } from '@fastify/type-provider-typebox'
import { problem } from '../http/problems.js'
import type { User, UsersRepository } from './repository.js'
import { getUserSchema, patchUserSchema, userView } from './schemas.js'

interface Options { users: UsersRepository }

/** The row may have gone since the guard saw it. */
const viewOrGone = (user: User | undefined) => {
  if (!user) throw problem('invalid_token')
  return userView(user)
}

/** The routes of /users; the scope they are registered in has the guard. */
export const usersRoutes: FastifyPluginAsyncTypebox<Options> = async (app, { users }) => {
  app.get('/me', { schema: getUserSchema }, async ({ user }) => viewOrGone(await users.findById(user.id)))

  app.patch('/me', { schema: patchUserSchema }, async ({ user, body }) =>
    viewOrGone(await users.update(user.id, {
      fullName: body.full_name,
      profileImageUrl: body.profile_image_url,
      language: body.language
    })))
}
