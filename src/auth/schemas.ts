import { Type } from 'typebox'
import { answer, guarded, header, limited } from '../answers.js'
import { problems } from '../errors.js'
import { defaultMarket, marketIds, markets } from '../markets.js'
import { DoneSchema, LanguageSchema, MarketSchema, Nullable } from '../schemas.js'

const tags = ['auth']

const Phone = Type.String({
  minLength: 1,
  maxLength: 32,
  description: 'With its country code. Spaces, `-`, `(` and `)` do not count, and the `+` may be missing.'
})

export const sendVerificationSchema = {
  operationId: 'sendVerification',
  summary: 'Send a code by SMS',
  description: 'Answers alike for known and unknown numbers. A code that is still alive is sent again. The language of the message is that ' +
    'of the body, else of `Accept-Language`, else that of the account or the market.',
  tags,
  body: Type.Object({ phone: Phone, language: Type.Optional(LanguageSchema) }, { examples: [{ phone: '+996 555 123 456' }] }),
  response: limited({
    200: answer(Type.Object({
      success: Type.Literal(true),
      message: Type.String(),
      phone_number: Type.String({ description: 'In the format of its market.' }),
      market: MarketSchema,
      language: LanguageSchema,
      expires_in: Type.Integer({ description: 'Seconds for which the code is good.' }),
      expires_in_minutes: Type.Integer(),
      retry_after: Type.Integer({ description: 'Seconds after which a code may be asked for again.' })
    }), 'A code is on its way.', {
      success: true,
      message: 'A code is on its way by SMS.',
      phone_number: '+996 555 123 456',
      market: 'kg',
      language: 'ru',
      expires_in: 300,
      expires_in_minutes: 5,
      retry_after: 60
    }),
    ...problems(['bad_request', 'payload_too_large', 'unsupported_media_type', 'invalid_request', 'unsupported_phone',
      'resend_too_soon', 'too_many_sends', 'rate_limited', 'sms_failed', 'unavailable'])
  })
}

export const verifyCodeSchema = {
  operationId: 'verifyCode',
  summary: 'Trade a code for an access token',
  description: 'A code is good once. A number that nobody has logged in with before becomes an account.',
  tags,
  body: Type.Object({ phone: Phone, verification_code: Type.String({ pattern: '^[0-9]{6}$' }) },
    { examples: [{ phone: '+996 555 123 456', verification_code: '483920' }] }),
  response: limited({
    200: answer(Type.Object({
      success: Type.Literal(true),
      message: Type.String(),
      access_token: Type.String({ description: 'A JWT (RFC 7519), signed with HS256: `user_id`, `market`, `iat`, `exp`.' }),
      token_type: Type.Literal('bearer'),
      expires_in: Type.Integer({ description: 'Seconds for which the token is good.' }),
      user: Type.Object({
        id: Type.Integer(),
        phone: Type.String({ description: 'E.164.' }),
        name: Type.String(),
        full_name: Nullable(Type.String()),
        is_active: Type.Boolean(),
        is_verified: Type.Boolean(),
        market: MarketSchema
      }),
      market: MarketSchema,
      is_new_user: Type.Boolean()
    }), 'Signed in.', {
      success: true,
      message: 'Signed in.',
      access_token: 'eyJhbGciOiJIUzI1NiIsInR5cCI6IkpXVCJ9.eyJ1c2VyX2lkIjoxOSwibWFya2V0Ijoia2ciLCJpYXQiOjE3OTU0MTE4MDAsImV4cCI6MTc5NTQxMzYwMH0.LhdwfRxTeEbFtZmGvVTPFgZZXG8OgaW2ZAPKwF6OYnE',
      token_type: 'bearer',
      expires_in: 1800,
      user: {
        id: 19,
        phone: '+996555123456',
        name: 'User +996555123456',
        full_name: null,
        is_active: true,
        is_verified: true,
        market: 'kg'
      },
      market: 'kg',
      is_new_user: true
    }),
    ...problems(['bad_request', 'invalid_code', 'payload_too_large', 'unsupported_media_type', 'invalid_request', 'unsupported_phone',
      'rate_limited', 'unavailable'])
  })
}

export const logoutSchema = {
  operationId: 'logout',
  summary: 'Sign out on every device',
  description: 'Every token of the account is dead from here on, also after the next login. No body is needed.',
  tags,
  ...guarded,
  response: limited({
    200: answer(DoneSchema, 'Signed out.', { success: true, message: 'Signed out on every device.' }),
    ...problems(['bad_request', 'token_missing', 'invalid_token', 'payload_too_large', 'unsupported_media_type', 'rate_limited', 'unavailable'])
  })
}

export const verifyTokenSchema = {
  operationId: 'verifyToken',
  summary: 'Check a token, for gateways',
  description: 'The forward-auth endpoint. It answers any method, with any suffix to its path, and reads no body: whatever a ' +
    'request holds, the answer is 200, 401 or 503. A malformed `Authorization` is 401 here.',
  tags,
  ...guarded,
  response: {
    200: answer(Type.Object({ valid: Type.Literal(true), user_id: Type.Integer(), market: MarketSchema }), 'The token is good.',
      { valid: true, user_id: 19, market: 'kg' },
      { 'X-User-Id': header('The id of the user.', 'integer'), 'X-User-Market': header('The market of the user.') }),
    ...problems(['token_missing', 'invalid_token', 'unavailable'])
  }
}

/** All that the table of markets tells in public. */
export const supportedMarkets = {
  supported_markets: marketIds.map((id) => ({
    market: id,
    country: markets[id].country,
    currency: markets[id].currency,
    currency_code: markets[id].currencyCode,
    language: markets[id].language,
    phone_prefix: markets[id].prefix,
    phone_format: markets[id].phoneFormat
  })),
  default_market: defaultMarket
}

export const marketsSchema = {
  operationId: 'listMarkets',
  summary: 'List the markets',
  tags,
  response: {
    200: answer(Type.Object({
      supported_markets: Type.Array(Type.Object({
        market: MarketSchema,
        country: Type.String(),
        currency: Type.String(),
        currency_code: Type.String({ description: 'ISO 4217.' }),
        language: LanguageSchema,
        phone_prefix: Type.String(),
        phone_format: Type.String({ description: 'How a number is shown; every X is a digit.' })
      })),
      default_market: MarketSchema
    }), 'The markets whose numbers can sign in.', supportedMarkets)
  }
}
