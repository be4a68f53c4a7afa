import { once } from 'node:events'
import createClient from 'openapi-fetch'
import type { components, paths } from './phone-auth.js'

/** The content that a call returned. Throws if the call failed. */
function content<T> ({ data, error }: { data?: T, error?: unknown }): T {
  if (data === undefined) throw new Error(JSON.stringify(error))
  return data
}

/** The problem with which a call failed. */
function problem ({ error }: { error?: components['schemas']['Problem'] }) {
  if (error === undefined) throw new Error('the call succeeded')
  return error
}

const [baseUrl, phone] = process.argv.slice(2) as [string, string]
const api = createClient<paths>({ baseUrl })
const markets = content(await api.GET('/api/v1/auth/markets')).supported_markets.map(({ market }) => market).join()

const sent = content(await api.POST('/api/v1/auth/send-verification', { body: { phone, language: 'en' } }))
const code = String((await once(process.stdin, 'data'))[0]).trim()
const wrongCode = code === '000000' ? '000001' : '000000'
const wrong = problem(await api.POST('/api/v1/auth/verify-code', { body: { phone, verification_code: wrongCode } }))
const login = content(await api.POST('/api/v1/auth/verify-code', { body: { phone, verification_code: code } }))
const headers = { authorization: `Bearer ${login.access_token}` }
const me = content(await api.GET('/api/v1/users/me', { headers }))
console.log(markets, sent.language, login.user.market, login.is_new_user, me.phone_number, me.market, me.full_name)
console.log(wrong.code, wrong.attempts_remaining)

const home = { title: 'Home', full_address: 'Chuy 147', apartment: '12' }
const created = content(await api.POST('/api/v1/profile/addresses', { headers, body: home })).address
const route = '/api/v1/profile/addresses/{id}'
const byId = {
  headers,
  params: { path: { id: content(await api.GET(route, { headers, params: { path: { id: created.id } } })).address.id } }
}
const changed = content(await api.PATCH(route, { ...byId, body: { title: 'Office' } })).address
const { total } = content(await api.GET('/api/v1/profile/addresses', { headers }))
console.log(created.title, changed.title, changed.apartment, changed.street, changed.is_default, total)
content(await api.DELETE(route, byId))
console.log(problem(await api.GET(route, byId)).code)

console.log(content(await api.POST('/api/v1/auth/logout', { headers })).success)
console.log(problem(await api.GET('/api/v1/users/me', { headers })).code)
process.stdin.destroy()
