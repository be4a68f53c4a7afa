import swagger from '@fastify/swagger'
import swaggerUi from '@fastify/swagger-ui'
import fp from 'fastify-plugin'
import { problems } from '../errors.js'
import pageSecurity from './page-security.js'

const description = `Signs people in by phone number: a code by SMS is traded for an access token, which the routes of the account want.

Types are never coerced, and members that a schema does not name are ignored. Every answer of 400 and above is problem details
(RFC 9457), told apart by \`code\`. An \`X-Request-Id\` of 1 to 64 characters of \`A-Za-z0-9_-\` comes back as it went in.
The auth routes also answer without \`/api/v1\`.`

const tags = [
  { name: 'auth', description: 'Signing in and out.' },
  { name: 'users', description: 'The account of whoever is signed in.' },
  { name: 'addresses', description: 'Up to 50 addresses of whoever is signed in.' },
  { name: 'health', description: 'Probes for an orchestrator.' }
]

/** On every answer. */
const commonHeaders = {
  'X-Request-Id': { description: 'Names this request in the log.', schema: { type: 'string' } },
  'Cache-Control': { description: '`no-store`.', schema: { type: 'string' } }
}

/** What any request may meet on its way to a route. */
const anywhere = problems(['request_timeout', 'headers_too_large', 'internal_error'])

/** Of the logo of Swagger UI. */
const styleHashes = ["'sha256-RL3ie0nH+Lzz2YNqQN83mnU0J1ot4QL7b99vMdIX99w='"]

interface Response {
  headers?: Record<string, object>
  content?: Record<string, { examples?: Record<string, object> }>
}
interface Document {
  paths: Record<string, Record<string, { responses: Record<string, Response> }>>
  components: object
}
type Components = Record<'headers' | 'schemas' | 'examples', Record<string, object>>

const mapValues = <T, U>(record: Record<string, T>, map: (value: T, key: string) => U): Record<string, U> =>
  Object.fromEntries(Object.entries(record).map(([key, value]) => [key, map(value, key)]))

/** Keeps a part under its name among the components, and returns the reference to it. */
function component (components: Components, kind: keyof Components, name: string, part: object) {
  components[kind][name] = part
  return { $ref: `#/components/${kind}/${name}` }
}

/** Moves every schema with a title to the components of a document. An example is no schema, whatever its members. */
function nameSchemas (node: unknown, components: Components): unknown {
  if (Array.isArray(node)) return node.map((item) => nameSchemas(item, components))
  if (typeof node !== 'object' || node === null) return node
  const members: Record<string, unknown> = {}
  for (const [key, value] of Object.entries(node)) members[key] = /^examples?$/.test(key) ? value : nameSchemas(value, components)
  const { title, description, ...schema } = members
  return typeof title === 'string' ? component(components, 'schemas', title, schema) : members
}

/** A response with the headers that every answer has; headers and the examples of problems move to the components. */
function nameParts ({ headers, content, ...response }: Response, components: Components): Response {
  return {
    ...response,
    headers: mapValues({ ...headers, ...commonHeaders }, (header, name) => component(components, 'headers', name, header)),
    ...content && {
      content: mapValues(content, ({ examples, ...media }) => ({
        ...media,
        ...examples && {
          // The field that invalid_request complains about is one of the route.
          examples: mapValues(examples, (example, code) => code === 'invalid_request' ? example : component(components, 'examples', code, example))
        }
      }))
    }
  }
}

/** Adds to the document what all routes have in common. */
function complete ({ paths, components: given, ...document }: Document) {
  const components: Components = { headers: {}, schemas: {}, examples: {} }
  const completed = mapValues(paths, (path) => mapValues(path, (operation) => ({
    ...operation,
    responses: mapValues({ ...operation.responses, ...anywhere }, (response) => nameParts(response, components))
  })))
  return { ...document, paths: nameSchemas(completed, components) as Record<string, object>, components: { ...given, ...components } }
}

/** The OpenAPI 3.1 document of all routes registered after this, at /openapi.json, and pages to read and try it at /docs. */
export default fp(async (app) => {
  await app.register(swagger, {
    openapi: {
      openapi: '3.1.0',
      info: { title: 'phone-auth', version: '1.0.0', description, license: { name: 'MIT', identifier: 'MIT' } },
      servers: [{ url: '/' }],
      tags,
      security: [],
      components: {
        securitySchemes: { accessToken: { type: 'http', scheme: 'bearer', bearerFormat: 'JWT', description: 'The `access_token` of a login.' } }
      }
    },
    convertConstToEnum: false,
    // The auth routes are there twice; what has no schema answers 405.
    transform: ({ schema, url }) => ({ schema: { ...schema, hide: schema?.hide ?? (url.startsWith('/auth/') || !schema) }, url }),
    transformObject: (document) => complete((document as unknown as { openapiObject: Document }).openapiObject)
  })
  app.get('/openapi.json', { schema: { hide: true } }, () => app.swagger())

  await app.register(async (docs) => {
    await docs.register(pageSecurity, { styleHashes })
    await docs.register(swaggerUi, { routePrefix: '/docs', uiConfig: { persistAuthorization: false, tryItOutEnabled: true }, theme: { title: 'phone-auth' } })
  })
}, { name: 'openapi' })
