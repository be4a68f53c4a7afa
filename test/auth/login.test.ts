import t from 'tap'
import { newPhone, testService } from '../helpers/service.js'

const decode = (token: string) => JSON.parse(Buffer.from(token.split('.')[1] as string, 'base64url').toString()) as Record<string, unknown>

t.test('a code by SMS becomes a token that opens the guarded routes until logout', async (t) => {
  const service = await testService(t)
  const phone = newPhone('us')

  const sent = await service.send(phone)
  t.equal(sent.status, 200)
  t.strictSame(sent.body, {
    success: true,
    message: 'A code is on its way by SMS.',
    phone_number: sent.body.phone_number,
    market: 'us',
    language: 'en',
    expires_in: 300,
    expires_in_minutes: 5,
    retry_after: 60
  })
  const verified = await service.verify(phone, service.codeOf(phone))
  t.equal(verified.status, 200)
  const { access_token: token, user } = verified.body
  t.strictSame({ ...verified.body, access_token: '' }, {
    success: true,
    message: 'Signed in.',
    access_token: '',
    token_type: 'bearer',
    expires_in: 1800,
    user: { id: user.id, phone, name: `User ${phone}`, full_name: null, is_active: true, is_verified: true, market: 'us' },
    market: 'us',
    is_new_user: true
  })

  const claims = decode(token)
  t.strictSame(Object.keys(claims).sort(), ['exp', 'iat', 'market', 'user_id'])
  t.equal(claims.user_id, user.id)
  t.equal(claims.exp, claims.iat as number + 1800)

  t.equal((await service.request('GET', '/api/v1/users/me', { token })).status, 200)
  t.equal((await service.request('POST', '/api/v1/auth/logout', { token })).status, 200)
  const refused = await service.request('GET', '/api/v1/users/me', { token })
  t.equal(refused.status, 401)
  t.equal(refused.body.code, 'invalid_token')
})
