import { Type, type Static } from 'typebox'
import { problems } from '../errors.js'
import { DoneSchema, Nullable, OptionalText, RequiredText, Timestamp } from '../schemas.js'
import type { Address, AddressFields } from './repository.js'

const optionalFields = {
  street: OptionalText(200),
  building: OptionalText(50),
  apartment: OptionalText(20),
  city: OptionalText(100),
  state: OptionalText(50),
  postal_code: OptionalText(20),
  country: OptionalText(100),
  is_default: Type.Optional(Type.Boolean())
}
const NewAddressSchema = Type.Object({ title: RequiredText(100), full_address: RequiredText(500), ...optionalFields })
const AddressChangesSchema = Type.Object({
  title: Type.Optional(RequiredText(100)),
  full_address: Type.Optional(RequiredText(500)),
  ...optionalFields
})

const AddressSchema = Type.Object({
  id: Type.Integer(),
  title: Type.String(),
  full_address: Type.String(),
  street: Nullable(Type.String()),
  building: Nullable(Type.String()),
  apartment: Nullable(Type.String()),
  city: Nullable(Type.String()),
  state: Nullable(Type.String()),
  postal_code: Nullable(Type.String()),
  country: Type.String(),
  is_default: Type.Boolean(),
  created_at: Timestamp,
  updated_at: Timestamp
})
const OneAddressSchema = Type.Object({ success: Type.Literal(true), address: AddressSchema })
const ChangedAddressSchema = Type.Object({ success: Type.Literal(true), message: Type.String(), address: AddressSchema })

const params = Type.Object({ id: Type.String() })

export const listAddressesSchema = {
  response: {
    200: Type.Object({ success: Type.Literal(true), addresses: Type.Array(AddressSchema), total: Type.Integer() }),
    ...problems(400, 401, 503)
  }
}
export const createAddressSchema = {
  body: NewAddressSchema,
  response: { 201: ChangedAddressSchema, ...problems(400, 401, 409, 413, 415, 422, 503) }
}
export const getAddressSchema = { params, response: { 200: OneAddressSchema, ...problems(400, 401, 404, 503) } }
export const updateAddressSchema = {
  params,
  body: AddressChangesSchema,
  response: { 200: ChangedAddressSchema, ...problems(400, 401, 404, 413, 415, 422, 503) }
}
export const deleteAddressSchema = { params, response: { 200: DoneSchema, ...problems(400, 401, 404, 413, 415, 503) } }

/** The fields of a body as columns; null for the country means `country`. */
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

/** A row as its owner sees it. */
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
  created_at: address.createdAt.toISOString(),
  updated_at: address.updatedAt.toISOString()
})
