import { Type } from 'typebox'
import { problems } from '../errors.js'
import { DoneSchema, LanguageSchema, MarketSchema, Nullable } from '../schemas.js'

const Phone = Type.String({ minLength: 1, maxLength: 32 })

export const sendVerificationSchema = {
  body: Type.Object({ phone: Phone, language: Type.Optional(LanguageSchema) }),
  response: {
    200: Type.Object({
      success: Type.Literal(true),
      message: Type.String(),
      phone_number: Type.String(),
      market: MarketSchema,
      language: LanguageSchema,
      expires_in: Type.Integer(),
      expires_in_minutes: Type.Integer(),
      retry_after: Type.Integer()
    }),
    ...problems(400, 413, 415, 422, 429, 502, 503)
  }
}

export const verifyCodeSchema = {
  body: Type.Object({ phone: Phone, verification_code: Type.String({ pattern: '^[0-9]{6}$' }) }),
  response: {
    200: Type.Object({
      success: Type.Literal(true),
      message: Type.String(),
      access_token: Type.String(),
      token_type: Type.Literal('bearer'),
      expires_in: Type.Integer(),
      user: Type.Object({
        id: Type.Integer(),
        phone: Type.String(),
        name: Type.String(),
        full_name: Nullable(Type.String()),
        is_active: Type.Boolean(),
        is_verified: Type.Boolean(),
        market: MarketSchema
      }),
      market: MarketSchema,
      is_new_user: Type.Boolean()
    }),
    ...problems(400, 413, 415, 422, 429, 503)
  }
}

export const logoutSchema = { response: { 200: DoneSchema, ...problems(400, 401, 413, 415, 503) } }

export const verifyTokenSchema = {
  response: {
    200: Type.Object({ valid: Type.Literal(true), user_id: Type.Integer(), market: MarketSchema }),
    ...problems(401, 503)
  }
}

export const marketsSchema = {
  response: {
    200: Type.Object({
      supported_markets: Type.Array(Type.Object({
        market: MarketSchema,
        country: Type.String(),
        currency: Type.String(),
        currency_code: Type.String(),
        language: LanguageSchema,
        phone_prefix: Type.String(),
        phone_format: Type.String()
      })),
      default_market: MarketSchema
    })
  }
}
