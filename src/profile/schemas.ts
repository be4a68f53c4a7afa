import { Type, type Static } from 'typebox'
import { responseOf, authenticated, header, limited } from '../http/responses.js'
import { problems } from '../http/problems.js'
import { done, DoneSchema, Int32, Nullable, OptionalText, RequiredText, success, Timestamp } from '../http/schemas.js'
import type { Address, AddressFields } from './repository.js'

const parts = {
  title: 'The name that the person gives the address.',
  full_address: 'The address in one line.',
  street: 'The street.',
  building: 'The number or name of the building.',
  apartment: 'The apartment, suite or office.',
  city: 'The city or village.',
  state: 'The state, province or oblast.',
  postal_code: 'The postal code.',
  country: 'The country.'
}
const optionalFields = {
  street: OptionalText(200, parts.street),
  building: OptionalText(50, parts.building),
  apartment: OptionalText(20, parts.apartment),
  city: OptionalText(100, parts.city),
  state: OptionalText(50, parts.state),
  postal_code: OptionalText(20, parts.postal_code),
  country: OptionalText(100, `${parts.country} Null means the country of the market.`),
  is_default: Type.Optional(Type.Boolean({
    description: 'True makes this address the default instead of the current one. False on the default changes nothing.'
  }))
}
const exampleFields = {
  title: 'Home',
  full_address: 'Bishkek, Chuy Avenue 147, apartment 12',
  street: 'Chuy Avenue',
  building: '147',
  apartment: '12',
  city: 'Bishkek',
  postal_code: '720001'
}
const exampleChanges = { title: 'Office', apartment: null }

const NewAddressSchema = Type.Object({
  title: RequiredText(100, parts.title),
  full_address: RequiredText(500, parts.full_address, 'multiline-text'),
  ...optionalFields
}, { title: 'NewAddress', examples: [exampleFields] })
const AddressChangesSchema = Type.Object({
  title: Type.Optional(RequiredText(100, parts.title)),
  full_address: Type.Optional(RequiredText(500, parts.full_address, 'multiline-text')),
  ...optionalFields
}, { title: 'AddressChanges', examples: [exampleChanges] })

const AddressSchema = Type.Object({
  id: Int32('The id of the address.'),
  title: Type.String({ description: parts.title }),
  full_address: Type.String({ description: parts.full_address }),
  street: Nullable(Type.String({ description: parts.street })),
  building: Nullable(Type.String({ description: parts.building })),
  apartment: Nullable(Type.String({ description: parts.apartment })),
  city: Nullable(Type.String({ description: parts.city })),
  state: Nullable(Type.String({ description: parts.state })),
  postal_code: Nullable(Type.String({ description: parts.postal_code })),
  country: Type.String({ description: parts.country }),
  is_default: Type.Boolean({ description: 'Exactly one address of a person is the default.' }),
  created_at: Timestamp('When the address was added.'),
  updated_at: Timestamp('When the address was last changed.')
}, { title: 'Address', description: 'An address of the person.' })
const OneAddressSchema = Type.Object({ ...success, address: AddressSchema }, { title: 'OneAddress' })
const ChangedAddressSchema = Type.Object({ ...done, address: AddressSchema }, { title: 'ChangedAddress' })
const AddressListSchema = Type.Object({
  ...success,
  addresses: Type.Array(AddressSchema, { description: 'The default first, then the newest.' }),
  total: Int32('The number of addresses.')
}, { title: 'AddressList' })

const exampleAddress: Static<typeof AddressSchema> = {
  id: 7,
  ...exampleFields,
  state: null,
  country: 'Kyrgyzstan',
  is_default: true,
  created_at: '2026-11-23T05:31:00.123Z',
  updated_at: '2026-11-23T05:31:00.123Z'
}

const tags = ['addresses']
/** The largest id of a SERIAL column. */
export const maxAddressId = 2_147_483_647
/** The handler checks the id, so anything that is not an id is 404 and not 422. The OpenAPI document has its type. */
const params = Type.Object({ id: Type.String() })
const documentedParams = Type.Object({
  id: Type.Integer({
    format: 'int32', minimum: 1, maximum: maxAddressId, description: 'The id of one of your addresses.', examples: [7]
  })
})
const byId = { params, documentedParams }
const refusals = ['bad_request', 'token_missing', 'invalid_token', 'rate_limited', 'unavailable'] as const
const bodyRefusals = [...refusals, 'payload_too_large', 'unsupported_media_type'] as const

export const listAddressesSchema = {
  operationId: 'listAddresses',
  summary: 'List the addresses',
  description: 'Returns all addresses, at most 50.',
  tags,
  ...authenticated,
  response: {
    200: responseOf(AddressListSchema,
      'The default first, then the newest.', { success: true, addresses: [exampleAddress], total: 1 }),
    ...problems(refusals)
  }
}

export const createAddressSchema = {
  operationId: 'createAddress',
  summary: 'Add an address',
  description: 'The first address becomes the default. An address without a country gets the one of the market.',
  tags,
  ...authenticated,
  body: NewAddressSchema,
  response: limited({
    201: responseOf(ChangedAddressSchema, 'Added.',
      { success: true, message: 'Address added.', address: exampleAddress },
      { Location: header('The path of the new address.') }),
    ...problems([...bodyRefusals, 'address_limit', 'invalid_request'], '/title')
  })
}

export const getAddressSchema = {
  operationId: 'getAddress',
  summary: 'Read an address',
  description: 'An address of another person is not found.',
  tags,
  ...authenticated,
  ...byId,
  response: {
    200: responseOf(OneAddressSchema, 'The address.', { success: true, address: exampleAddress }),
    ...problems([...refusals, 'not_found'])
  }
}

const updated = {
  summary: 'Change an address',
  description: 'Members that are missing in the body stay as they are, with PUT as with PATCH. A new default ' +
    'replaces the current one.',
  tags,
  ...authenticated,
  ...byId,
  body: AddressChangesSchema,
  response: limited({
    200: responseOf(ChangedAddressSchema, 'The changed address.',
      { success: true, message: 'Address changed.', address: { ...exampleAddress, ...exampleChanges } }),
    ...problems([...bodyRefusals, 'not_found', 'invalid_request'], '/title')
  })
}
export const updateAddressSchema = { operationId: 'updateAddress', ...updated }
export const putAddressSchema = { operationId: 'putAddress', ...updated }

export const deleteAddressSchema = {
  operationId: 'deleteAddress',
  summary: 'Delete an address',
  description: 'If it was the default, the newest remaining address becomes the default.',
  tags,
  ...authenticated,
  ...byId,
  response: limited({
    200: responseOf(DoneSchema, 'Deleted.', { success: true, message: 'Address deleted.' }),
    ...problems([...bodyRefusals, 'not_found'])
  })
}

/** The fields of a body as columns. A country of null becomes `country`. */
export function addressFields (body: Static<typeof AddressChangesSchema>, country: string): AddressFields {
  return {
    title: body.title,
    fullAddress: body.full_address,
    street: body.street,
    building: body.building,
    apartment: body.apartment,
    city: body.city,
    state: body.state,
    postalCode: body.postal_code,
    country: body.country === null ? country : body.country,
    isDefault: body.is_default
  }
}

/** Turns a UTC timestamp from PostgreSQL's JSON into ISO 8601 with milliseconds and `Z`. */
const iso = (timestamp: string) => `${timestamp.slice(0, 19)}.${timestamp.slice(20, 23).padEnd(3, '0')}Z`

/** A row as the response that its owner gets. */
export const addressView = (address: Address): Static<typeof AddressSchema> => ({
  id: address.id,
  title: address.title,
  full_address: address.fullAddress,
  street: address.street,
  building: address.building,
  apartment: address.apartment,
  city: address.city,
  state: address.state,
  postal_code: address.postalCode,
  country: address.country,
  is_default: address.isDefault,
  created_at: iso(address.createdAt),
  updated_at: iso(address.updatedAt)
})
