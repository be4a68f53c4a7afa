import { Type } from 'typebox'
import { problems } from '../http/problems.js'
import { responseOf, authenticated, limited } from '../http/responses.js'

export const deleteUserSchema = {
  operationId: 'deleteMe',
  summary: 'Delete the account',
  description: 'Deletes the account, its addresses and its live code. Every token of it stops working at once.',
  tags: ['users'],
  ...authenticated,
  response: limited({
    204: responseOf(Type.Null(), 'Deleted.'),
    ...problems(['bad_request', 'token_missing', 'invalid_token', 'account_in_use', 'payload_too_large',
      'unsupported_media_type', 'rate_limited', 'unavailable'])
  })
}
