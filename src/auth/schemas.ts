import { Type } from 'typebox'
import { answer, authenticated, header, limited } from '../http/responses.js'
import { problems } from '../http/problems.js'
import { defaultMarket, marketIds, markets } from '../phone/markets.js'
import { LanguageSchema, MarketIdSchema, OpenLanguage, OpenMarket } from '../http/market-schemas.js'
import { done, DoneSchema, Int32, Nullable, openOneOf, True, UserId } from '../http/schemas.js'

const tags = ['auth']

/** The most characters of a number or code that is typed or pasted. */
const maxTyped = 64

const Phone = Type.String({
  minLength: 1,
  maxLength: maxTyped,
  description: 'With its country code, whose `+` may be `00` or missing, or a national number of `market`. Spaces, dashes, dots, ' +
    'parentheses and invisible characters do not count.'
})
const Code = Type.String({
  maxLength: maxTyped,
  format: 'one-time-code',
  description: 'Six digits. Spaces, dashes, dots, parentheses and invisible characters do not count.'
})

/** Headers take any value: one that means nothing counts as none. */
const requestId = {
  'X-Request-Id': Type.Optional(Type.String({
    description: 'Names this request in the log, if it is 1 to 64 of `A-Za-z0-9_-`.', examples: ['login-7f3a']
  }))
}
const acceptLanguage = {
  'Accept-Language': Type.Optional(Type.String({
    description: 'The language of the message, if the body names none.', examples: ['ky, ru;q=0.8']
  }))
}

const CodeSentSchema = Type.Object({
  ...done,
  phone_number: Type.String({ description: 'In the format of its market.' }),
  market: OpenMarket('The market of the number.'),
  language: OpenLanguage('The language of the request, else of the market.'),
  expires_in: Int32('Seconds for which the code is good.'),
  expires_in_minutes: Int32('The same in minutes, rounded up.'),
  retry_after: Int32('Seconds after which the code may be sent again.')
}, { title: 'CodeSent' })

const LoginUserSchema = Type.Object({
  id: UserId,
  phone: Type.String({ description: 'E.164.' }),
  name: Type.String({ description: 'The full name, or `User` and the number where there is none.' }),
  full_name: Nullable(Type.String({ description: 'Null where the person gave none.' })),
  is_active: Type.Boolean({ description: 'Whether the person is signed in.' }),
  is_verified: Type.Boolean({ description: 'Whether the number has ever been verified.' }),
  market: OpenMarket('The market of the number.')
}, { title: 'LoginUser', description: 'Who has signed in.' })

const LoginSchema = Type.Object({
  ...done,
  access_token: Type.String({ description: 'A JWT (RFC 7519), signed with HS256: `user_id`, `market`, `iat`, `exp`.' }),
  token_type: openOneOf(['bearer'], 'How the token is sent (RFC 6750).'),
  expires_in: Int32('Seconds for which the token is good.'),
  user: LoginUserSchema,
  market: OpenMarket('The market of the user.'),
  is_new_user: Type.Boolean({ description: 'Whether this login made the account.' })
}, { title: 'Login' })

const TokenCheckSchema = Type.Object({
  valid: True('Always true; a token that is not good is a Problem.'),
  user_id: UserId,
  market: OpenMarket('The market of the user.')
}, { title: 'TokenCheck' })

const MarketSchema = Type.Object({
  market: OpenMarket('The id of the market.'),
  country: Type.String({ description: 'Its English name.' }),
  currency: Type.String({ description: 'Its sign.' }),
  currency_code: Type.String({ description: 'ISO 4217.' }),
  language: OpenLanguage('The language of messages, where the person has chosen none.'),
  phone_prefix: Type.String({ description: 'What every number begins with.' }),
  phone_format: Type.String({ description: 'How a number is shown; every X is a digit.' })
}, { title: 'Market', description: 'A country whose numbers can sign in.' })

const MarketListSchema = Type.Object({
  supported_markets: Type.Array(MarketSchema, { description: 'Every market whose numbers can sign in.' }),
  default_market: OpenMarket('The market of an account whose number belongs to none.')
}, { title: 'MarketList' })

// New members of a body go last: generated clients of Kotlin take them by position.
export const sendVerificationSchema = {
  operationId: 'sendVerification',
  summary: 'Send a code by SMS',
  description: 'Answers alike for known and unknown numbers. A code that is still alive is sent again. The language of the message is that ' +
    'of the body, else of `Accept-Language`, else that of the account or the market.',
  tags,
  headers: Type.Object({ ...acceptLanguage, ...requestId }),
  body: Type.Object({ phone: Phone, language: Type.Optional(LanguageSchema), market: Type.Optional(MarketIdSchema) },
    { title: 'CodeRequest', examples: [{ phone: '+996 555 123 456' }] }),
  response: limited({
    200: answer(CodeSentSchema, 'A code is on its way.', {
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
  summary: 'Trade a code for an access token',
  description: 'A code is good once. A number that nobody has logged in with before becomes an account.',
  tags,
  headers: Type.Object(requestId),
  body: Type.Object({ phone: Phone, verification_code: Code, market: Type.Optional(MarketIdSchema) },
    { title: 'LoginRequest', examples: [{ phone: '+996 555 123 456', verification_code: '483920' }] }),
  response: limited({
    200: answer(LoginSchema, 'Signed in.', {
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
  ...authenticated,
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
  ...authenticated,
  response: {
    200: answer(TokenCheckSchema, 'The token is good.',
      { valid: true, user_id: 19, market: 'kg' },
      { 'X-User-Id': header('The id of the user.', 'int64'), 'X-User-Market': header('The market of the user.') }),
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
  description: 'Read it at the start of an app: a market may be added at any time.',
  tags,
  response: {
    200: answer(MarketListSchema, 'The markets whose numbers can sign in.', supportedMarkets)
  }
}
