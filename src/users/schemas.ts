import { Type, type Static } from 'typebox'
import { problems } from '../errors.js'
import { formatPhone, isLanguage, marketOf, markets } from '../markets.js'
import { LanguageSchema, MarketSchema, Nullable, RequiredText, Timestamp } from '../schemas.js'
import type { User } from './repository.js'

const UserSchema = Type.Object({
  id: Type.Integer(),
  phone_number: Type.String(),
  formatted_phone: Type.String(),
  name: Type.String(),
  full_name: Nullable(Type.String()),
  profile_image_url: Nullable(Type.String()),
  is_active: Type.Boolean(),
  is_verified: Type.Boolean(),
  market: MarketSchema,
  language: LanguageSchema,
  country: Type.String(),
  currency: Type.String(),
  currency_code: Type.String(),
  last_login: Nullable(Timestamp),
  created_at: Nullable(Timestamp)
})

export const getUserSchema = { response: { 200: UserSchema, ...problems(400, 401, 503) } }

export const patchUserSchema = {
  body: Type.Object({
    full_name: Type.Optional(Nullable(RequiredText(255))),
    profile_image_url: Type.Optional(Nullable(Type.String({ maxLength: 500, format: 'http-url' }))),
    language: Type.Optional(LanguageSchema)
  }),
  response: { 200: UserSchema, ...problems(400, 401, 413, 415, 422, 503) }
}

export const deleteUserSchema = { response: { 204: Type.Null(), ...problems(400, 401, 409, 413, 415, 503) } }

/** What a person is called: the full name, or the number where there is none. */
export const displayName = ({ fullName, phoneNumber }: Pick<User, 'fullName' | 'phoneNumber'>) => fullName || `User ${phoneNumber}`

/** A row as its owner sees it; what the row does not know comes from the market. */
export function userView (user: User): Static<typeof UserSchema> {
  const market = marketOf(user.market, user.phoneNumber)
  const { country, currency, currencyCode, language } = markets[market]
  return {
    id: user.id,
    phone_number: user.phoneNumber,
    formatted_phone: formatPhone(user.phoneNumber),
    name: displayName(user),
    full_name: user.fullName,
    profile_image_url: user.profileImageUrl,
    is_active: user.isActive === true,
    is_verified: user.isVerified === true,
    market,
    language: isLanguage(user.language) ? user.language : language,
    country: user.country ?? country,
    currency,
    currency_code: currencyCode,
    last_login: user.lastLogin?.toISOString() ?? null,
    created_at: user.createdAt?.toISOString() ?? null
  }
}
