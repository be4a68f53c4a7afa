import { Type } from 'typebox'
import { problems } from '../http/problems.js'
import { answer, guarded, limited } from '../http/responses.js'

export const deleteUserSchema = {
  operationId: 'deleteMe',
  summary: 'Delete the account',
  description: 'The account, its addresses and its pending code are gone, and every token of it is dead.',
  tags: ['users'],
  ...guarded,
  response: limited({
    204: answer(Type.Null(), 'Deleted.'),
    ...problems(['bad_request', 'token_missing', 'invalid_token', 'account_in_use', 'payload_too_large', 'unsupported_media_type',
      'rate_limited', 'unavailable'])
  })
}
