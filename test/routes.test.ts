import { subscribe, unsubscribe } from 'node:diagnostics_channel'
import type { FastifyInstance, RouteOptions } from 'fastify'
import t from 'tap'
import { head, rawRequest } from './helpers/raw.js'
import { newPhone, testService } from './helpers/service.js'

/*
 * Walks every route that the service registers. A new route must be listed here. A route without a token must be in
 * the list of public routes.
 */

const auth = (prefix: string) => [
  `POST ${prefix}/auth/send-verification`, `POST ${prefix}/auth/verify-code`, `GET ${prefix}/auth/markets`,
  `HEAD ${prefix}/auth/markets`
]
const docs = [
  '/openapi.json', '/docs', '/docs/', '/docs/json', '/docs/yaml', '/docs/static/*', '/docs/static/index.html',
  '/docs/static/swagger-initializer.js'
].flatMap((path) => [`GET ${path}`, `HEAD ${path}`])
const publicRoutes = [
  ...auth(''), ...auth('/api/v1'), 'GET /health/live', 'HEAD /health/live', 'GET /health/ready', 'HEAD /health/ready',
  ...docs
]
const authenticatedRoutes = [
  'POST /auth/logout', 'POST /api/v1/auth/logout',
  'GET /api/v1/users/me', 'HEAD /api/v1/users/me', 'PATCH /api/v1/users/me', 'DELETE /api/v1/users/me',
  'GET /api/v1/profile/addresses', 'HEAD /api/v1/profile/addresses', 'POST /api/v1/profile/addresses',
  'GET /api/v1/profile/addresses/:id', 'HEAD /api/v1/profile/addresses/:id', 'PUT /api/v1/profile/addresses/:id',
  'PATCH /api/v1/profile/addresses/:id', 'DELETE /api/v1/profile/addresses/:id'
]
const verifyToken = ['/auth/verify-token', '/api/v1/auth/verify-token']

/** Every method of every path that the service registers with Fastify, including the routes of 405. */
const registered = new Set<string>()
const collect = (message: unknown) => {
  const { fastify } = message as { fastify: FastifyInstance }
  fastify.addHook('onRoute', ({ method, url }: RouteOptions) => {
    // Node closes the connection of a CONNECT before routing (CONTRACT, section 4).
    for (const one of [method].flat()) if (one !== 'CONNECT') registered.add(`${one} ${url}`)
  })
}
subscribe('fastify.initialization', collect)
const service = await testService(t, { env: { DOCS: 'true' } })
unsubscribe('fastify.initialization', collect)
// For a path with and without a trailing slash, Fastify reports only HEAD.
registered.add('GET /docs/')
const methods = service.app.supportedMethods.filter((method) => method !== 'CONNECT')

const ask = (route: string, ...headers: string[]) => {
  const [method, url] = route.split(' ') as [string, string]
  return rawRequest(service.url, head(`${method} ${url.replace(':id', '1')}`, ...headers))
}

/** The problem code of a response, or its status. A response to HEAD has no body. */
const outcome = async (route: string, ...headers: string[]) => {
  const { status, headers: answered, body } = await ask(route, ...headers)
  const challenge = answered.get('www-authenticate')
  if (status !== 401) return status
  return body.code ?? (challenge?.includes('invalid_token') ? 'invalid_token' : challenge && 'token_missing')
}

t.test('without a token every route except the public ones is 401 token_missing', async (t) => {
  t.ok(registered.size > 100)
  const responses = new Map<string, string[]>()
  for (const route of registered) {
    const response = String(await outcome(route))
    responses.set(response, [...responses.get(response) ?? [], route])
  }
  const without = (routes: string[] = []) =>
    routes.filter((route) => !verifyToken.includes(route.split(' ')[1] as string)).sort()
  const { token_missing: authenticated, 405: refused, ...others } = Object.fromEntries(responses)
  t.strictSame(without(authenticated), [...authenticatedRoutes].sort())
  t.strictSame(Object.values(others).flat().sort(), [...publicRoutes].sort())
  t.equal(refused?.length, without(refused).length, 'verify-token accepts every method')
  for (const path of verifyToken) {
    const found = authenticated?.filter((route) => route.endsWith(` ${path}`)).map((route) => route.split(' ')[0])
    t.strictSame(found?.sort(), [...methods].sort(), path)
  }
})

t.test('the OpenAPI document has every route once, with security on authenticated routes', async (t) => {
  type Operations = Record<string, { security?: object, operationId: string }>
  const { paths } = (await service.request('GET', '/openapi.json')).body as { paths: Record<string, Operations> }
  const operations = Object.entries(paths).flatMap(([path, item]) =>
    Object.entries(item).map(([method, operation]) => ({
      route: `${method.toUpperCase()} ${path.replace('{id}', ':id')}`, ...operation
    })))
  const isDocumented = (route: string) =>
    !/ \/auth\//.test(route) && !route.startsWith('HEAD') && !docs.includes(route)
  t.strictSame(operations.filter(({ security }) => !security).map(({ route }) => route).sort(),
    publicRoutes.filter(isDocumented).sort())
  t.strictSame(operations.filter(({ security }) => security).map(({ route }) => route).sort(),
    [...authenticatedRoutes.filter(isDocumented), 'GET /api/v1/auth/verify-token'].sort())
  t.equal(new Set(operations.map(({ operationId }) => operationId)).size, operations.length)
})

t.test('every path responds 405 with Allow to other methods', async (t) => {
  const known = [...publicRoutes, ...authenticatedRoutes]
  for (const path of new Set(known.map((route) => route.split(' ')[1] as string))) {
    const methods = known.filter((route) => route.endsWith(` ${path}`)).map((route) => route.split(' ')[0])
    const { status, headers } = await ask(`PROPFIND ${path}`)
    t.strictSame({ status, allow: headers.get('allow')?.split(', ').sort() }, { status: 405, allow: methods.sort() },
      path)
  }
})

t.test('with an invalid token every authenticated route is 401 invalid_token', async (t) => {
  const { token } = await service.login(newPhone())
  t.equal((await ask('GET /api/v1/users/me', `Authorization: Bearer ${token}`)).status, 200)
  await service.request('POST', '/auth/logout', { token })
  const routes = [
    ...authenticatedRoutes, ...verifyToken.flatMap((path) => methods.map((method) => `${method} ${path}`))
  ]
  for (const dead of [token, 'not.a.token']) {
    for (const route of routes) t.equal(await outcome(route, `Authorization: Bearer ${dead}`), 'invalid_token', route)
  }
})

t.test('the routes of /auth respond the same with and without /api/v1', async (t) => {
  const underAuth = (prefix: string) => [...registered].map((route) => route.split(' ') as [string, string])
    .filter(([, url]) => url.startsWith(`${prefix}/auth/`)).map(
      ([method, url]) => `${method} ${url.slice(prefix.length)}`).sort()
  t.ok(underAuth('').length > 100)
  t.strictSame(underAuth(''), underAuth('/api/v1'))
  for (const prefix of ['', '/api/v1']) {
    const phone = newPhone()
    const sent = await service.request('POST', `${prefix}/auth/send-verification`, { body: { phone } })
    t.equal(sent.status, 200)
    const verified = await service.request('POST', `${prefix}/auth/verify-code`,
      { body: { phone, verification_code: service.codeOf(phone) } })
    t.equal(verified.status, 200)
    const token = verified.body.access_token
    t.strictSame((await service.request('GET', `${prefix}/auth/verify-token`, { token })).body,
      { valid: true, user_id: verified.body.user.id, market: 'kg' })
    t.equal((await service.request('GET', `${prefix}/auth/markets`)).body.default_market, 'kg')
    t.equal((await service.request('POST', `${prefix}/auth/logout`, { token })).status, 200)
  }
})

t.test('responses about a person and all errors have Cache-Control: no-store', async (t) => {
  const { token } = await service.login(newPhone())
  for (const route of [
    ...authenticatedRoutes.filter((route) => !/logout|DELETE/.test(route)), ...verifyToken.map((path) => `GET ${path}`)
  ]) {
    t.equal((await ask(route, `Authorization: Bearer ${token}`)).headers.get('cache-control'), 'no-store', route)
    t.equal((await ask(route)).headers.get('cache-control'), 'no-store', route)
  }
  for (const route of [...auth(''), ...auth('/api/v1')]) {
    t.equal((await ask(route)).headers.get('cache-control'), 'no-store', route)
  }
})
