import type { FastifyPluginAsyncTypebox } from '@fastify/type-provider-typebox'
import { Problem } from '../http/problems.js'
import { markets } from '../phone/markets.js'
import type { AddressesRepository } from './repository.js'
import {
  addressFields, addressView, createAddressSchema, deleteAddressSchema, getAddressSchema, listAddressesSchema,
  maxAddressId, putAddressSchema, updateAddressSchema
} from './schemas.js'

/** The address id in the path. Throws not_found for anything that is not an id. */
function addressId ({ id }: { id: string }): number {
  if (!/^[1-9][0-9]{0,9}$/.test(id) || Number(id) > maxAddressId) throw new Problem('not_found')
  return Number(id)
}

interface Options {
  addresses: AddressesRepository
}

/** The routes of /profile, for a scope that authenticates. */
export const profileRoutes: FastifyPluginAsyncTypebox<Options> = async (app, { addresses }) => {
  app.get('/addresses', { schema: listAddressesSchema }, async ({ user }) => {
    const rows = await addresses.list(user.id)
    return { success: true as const, addresses: rows.map(addressView), total: rows.length }
  })

  app.post('/addresses', { schema: createAddressSchema }, async ({ user, body }, reply) => {
    const { country } = markets[user.market]
    const { title, full_address: fullAddress } = body
    const fields = addressFields(body, country)
    const address = await addresses.create(user.id,
      { ...fields, title, fullAddress, country: fields.country ?? country })
    return reply.code(201).header('location', `/api/v1/profile/addresses/${address.id}`)
      .send({ success: true, message: 'Address added.', address: addressView(address) })
  })

  app.get('/addresses/:id', { schema: getAddressSchema }, async ({ user, params }) => ({
    success: true as const, address: addressView(await addresses.get(user.id, addressId(params)))
  }))

  for (const [method, schema] of [['PUT', putAddressSchema], ['PATCH', updateAddressSchema]] as const) {
    app.route({
      method,
      url: '/addresses/:id',
      schema,
      handler: async ({ user, params, body }) => {
        const fields = addressFields(body, markets[user.market].country)
        const address = await addresses.update(user.id, addressId(params), fields)
        return { success: true as const, message: 'Address changed.', address: addressView(address) }
      }
    })
  }

  app.delete('/addresses/:id', { schema: deleteAddressSchema }, async ({ user, params }) => {
    await addresses.remove(user.id, addressId(params))
    return { success: true as const, message: 'Address deleted.' }
  })
}
