import { Type } from 'typebox'
import { responseOf, authenticated, limited } from '../http/responses.js'
import { problems } from '../http/problems.js'
import { defaultMarket, marketIds, markets } from '../phone/markets.js'
import { LanguageSchema, MarketIdSchema, OpenLanguage, OpenMarket } from '../http/market-schemas.js'
import { done, DoneSchema, Int32, Nullable, openOneOf, UserId } from '../http/schemas.js'

const tags = ['auth']

/** Most characters of a number or code as people type or paste it. */
const maxTyped = 64

const Phone = Type.String({
  minLength: 1,
  maxLength: maxTyped,
  description: 'With its country code, whose `+` may be `00` or missing, or a national number of `market`. Spaces, ' +
    'dashes, dots, parentheses and invisible characters are ignored.'
})
const Code = Type.String({
  maxLength: maxTyped,
  format: 'one-time-code',
  description: 'Six digits. Spaces, dashes, dots, parentheses and invisible characters are ignored.'
})

/** Headers accept any value: one that has no meaning is ignored. */
const requestId = {
  'X-Request-Id': Type.Optional(Type.String({
    description: 'The id of this request in the log, if it is 1 to 64 of `A-Za-z0-9_-`.', examples: ['login-7f3a']
  }))
}
const acceptLanguage = {
  'Accept-Language': Type.Optional(Type.String({
    description: 'The language of the message, if the body has none.', examples: ['ky, ru;q=0.8']
  }))
}

const CodeSentSchema = Type.Object({
  ...done,
  phone_number: Type.String({ description: 'The number in the format of its market.' }),
  market: OpenMarket('The market of the number.'),
  language: OpenLanguage('The language of the request, else of the market.'),
  expires_in: Int32('Seconds until the code expires.'),
  expires_in_minutes: Int32('Minutes until the code expires, rounded up.'),
  retry_after: Int32('Seconds until the code may be sent again.')
}, { title: 'CodeSent' })

const LoginUserSchema = Type.Object({
  id: UserId,
  phone: Type.String({ description: 'E.164.' }),
  name: Type.String({ description: 'The full name. Without one: `User` and the number.' }),
  full_name: Nullable(Type.String({ description: 'Null until the person sets it.' })),
  is_active: Type.Boolean({ description: 'Whether the person is signed in.' }),
  is_verified: Type.Boolean({ description: 'Whether the number has ever been verified.' }),
  market: OpenMarket('The market of the number.')
}, { title: 'LoginUser', description: 'The user who signed in.' })

const LoginSchema = Type.Object({
  ...done,
  access_token: Type.String({ description: 'A JWT (RFC 7519), signed with HS256: `user_id`, `market`, `iat`, `exp`.' }),
  token_type: openOneOf(['bearer'], 'How to send the token (RFC 6750).'),
  expires_in: Int32('Seconds until the token expires.'),
  user: LoginUserSchema,
  market: OpenMarket('The market of the user.'),
  is_new_user: Type.Boolean({ description: 'Whether this login created the account.' })
}, { title: 'Login' })

const MarketSchema = Type.Object({
  market: OpenMarket('The id of the market.'),
  country: Type.String({ description: 'The country in English.' }),
  currency: Type.String({ description: 'The sign of the currency.' }),
  currency_code: Type.String({ description: 'ISO 4217.' }),
  language: OpenLanguage('The language of messages, unless the person has chosen one.'),
  phone_prefix: Type.String({ description: 'The first characters of every number.' }),
  phone_format: Type.String({ description: 'How to display a number; every X is a digit.' })
}, { title: 'Market', description: 'A country whose numbers can sign in.' })

const MarketListSchema = Type.Object({
  supported_markets: Type.Array(MarketSchema, { description: 'Every market whose numbers can sign in.' }),
  default_market: OpenMarket('The market of an account whose number belongs to no market.')
}, { title: 'MarketList' })

// New members of a body go last: generated Kotlin clients pass them by position.
export const sendVerificationSchema = {
  operationId: 'sendVerification',
  summary: 'Send a code by SMS',
  description: 'The response does not reveal whether the number has an account. A live code is sent again. The ' +
    'message is in the language of the body, else of `Accept-Language`, else of the account, else of the market.',
  tags,
  headers: Type.Object({ ...acceptLanguage, ...requestId }),
  body: Type.Object({ phone: Phone, language: Type.Optional(LanguageSchema), market: Type.Optional(MarketIdSchema) },
    { title: 'CodeRequest', examples: [{ phone: '+996 555 123 456' }] }),
  response: limited({
    200: responseOf(CodeSentSchema, 'A code is on its way.', {
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
      'opted_out', 'resend_too_soon', 'too_many_sends', 'rate_limited', 'sms_failed', 'unavailable'])
  })
}

export const verifyCodeSchema = {
  operationId: 'verifyCode',
  summary: 'Exchange a code for an access token',
  description: 'A code works once. The first login of a number creates its account.',
  tags,
  headers: Type.Object(requestId),
  body: Type.Object({ phone: Phone, verification_code: Code, market: Type.Optional(MarketIdSchema) },
    { title: 'LoginRequest', examples: [{ phone: '+996 555 123 456', verification_code: '483920' }] }),
  response: limited({
    200: responseOf(LoginSchema, 'Signed in.', {
      success: true,
      message: 'Signed in.',
      access_token: 'eyJhbGciOiJIUzI1NiIsInR5cCI6IkpXVCJ9' +
        '.eyJ1c2VyX2lkIjoxOSwibWFya2V0Ijoia2ciLCJpYXQiOjE3OTU0MTE4MDAsImV4cCI6MTc5NTQxMzYwMH0' +
        '.LhdwfRxTeEbFtZmGvVTPFgZZXG8OgaW2ZAPKwF6OYnE',
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
    ...problems(['bad_request', 'invalid_code', 'payload_too_large', 'unsupported_media_type', 'invalid_request',
      'unsupported_phone', 'rate_limited', 'unavailable'])
  })
}

export const logoutSchema = {
  operationId: 'logout',
  summary: 'Sign out on every device',
  description: 'Every token of the account stops working at once and stays dead after the next login. The request ' +
    'needs no body.',
  tags,
  ...authenticated,
  response: limited({
    200: responseOf(DoneSchema, 'Signed out.', { success: true, message: 'Signed out on every device.' }),
    ...problems(['bad_request', 'token_missing', 'invalid_token', 'payload_too_large', 'unsupported_media_type',
      'rate_limited', 'unavailable'])
  })
}

/** The public part of the table of markets. */
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
  description: 'Read it when an app starts: a market may be added at any time.',
  tags,
  response: {
    200: responseOf(MarketListSchema, 'The markets whose numbers can sign in.', supportedMarkets)
  }
}
