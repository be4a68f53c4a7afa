import { Type, type Static } from 'typebox'
import { responseOf, authenticated, limited } from '../http/responses.js'
import { problems } from '../http/problems.js'
import { formatPhone, isLanguage, marketOf, markets } from '../phone/markets.js'
import { LanguageSchema, OpenLanguage, OpenMarket } from '../http/market-schemas.js'
import { Nullable, RequiredText, Timestamp, UserId } from '../http/schemas.js'
import type { User } from './repository.js'

const tags = ['users']

const UserSchema = Type.Object({
  id: UserId,
  phone_number: Type.String({ description: 'E.164.' }),
  formatted_phone: Type.String({ description: 'The number in the format of its market.' }),
  name: Type.String({ description: 'The full name. Without one: `User` and the number.' }),
  full_name: Nullable(Type.String({ description: 'Null until the person sets it.' })),
  profile_image_url: Nullable(Type.String({ description: 'An http or https URL.' })),
  is_active: Type.Boolean({ description: 'Whether the person is signed in.' }),
  is_verified: Type.Boolean({ description: 'Whether the number has ever been verified.' }),
  market: OpenMarket('The market of the number.'),
  language: OpenLanguage('The language of messages.'),
  country: Type.String({ description: 'The country in English.' }),
  currency: Type.String({ description: 'The sign of the currency.' }),
  currency_code: Type.String({ description: 'ISO 4217.' }),
  last_login: Nullable(Timestamp('The start of the latest session.')),
  created_at: Nullable(Timestamp('When the account was created.'))
}, { title: 'User', description: 'The account.' })

const exampleUser: Static<typeof UserSchema> = {
  id: 19,
  phone_number: '+996555123456',
  formatted_phone: '+996 555 123 456',
  name: 'User +996555123456',
  full_name: null,
  profile_image_url: null,
  is_active: true,
  is_verified: true,
  market: 'kg',
  language: 'ru',
  country: 'Kyrgyzstan',
  currency: 'сом',
  currency_code: 'KGS',
  last_login: '2026-11-23T05:30:00.000Z',
  created_at: '2026-11-23T05:30:00.123Z'
}
const exampleChanges = { full_name: 'Айгүл Асанова', language: 'ky' as const }

export const getUserSchema = {
  operationId: 'getMe',
  summary: 'Read the account',
  description: 'Members that the account does not store, such as the currency, come from its market.',
  tags,
  ...authenticated,
  response: {
    200: responseOf(UserSchema, 'The account.', exampleUser),
    ...problems(['bad_request', 'token_missing', 'invalid_token', 'rate_limited', 'unavailable'])
  }
}

export const patchUserSchema = {
  operationId: 'updateMe',
  summary: 'Change the account',
  description: 'Members that are missing in the body stay as they are.',
  tags,
  ...authenticated,
  body: Type.Object({
    full_name: Type.Optional(Nullable(RequiredText(255, 'Null removes it.'))),
    profile_image_url: Type.Optional(Nullable(Type.String({
      maxLength: 500, format: 'picture-url', description: 'An http or https URL; null removes it.'
    }))),
    language: Type.Optional(LanguageSchema)
  }, { title: 'UserChanges', examples: [exampleChanges] }),
  response: limited({
    200: responseOf(UserSchema, 'The changed account.',
      { ...exampleUser, ...exampleChanges, name: exampleChanges.full_name }),
    ...problems(['bad_request', 'token_missing', 'invalid_token', 'payload_too_large', 'unsupported_media_type',
      'invalid_request', 'rate_limited', 'unavailable'], '/full_name')
  })
}

/** The name to display: the full name, or `User` and the number. */
export const displayName = ({ fullName, phoneNumber }: Pick<User, 'fullName' | 'phoneNumber'>) =>
  fullName || `User ${phoneNumber}`

/** A row as the response that its owner gets. Columns that are NULL get the defaults of the market. */
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
