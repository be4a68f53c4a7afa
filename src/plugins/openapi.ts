import swagger from '@fastify/swagger'
import swaggerUi from '@fastify/swagger-ui'
import fp from 'fastify-plugin'
import { otherProblem, problems } from '../http/problems.js'
import { messageWebhook } from '../messages/webhook-document.js'
import { documentedPatterns, notBlank } from '../http/schemas.js'
import pageSecurity from './page-security.js'

/** The version of package.json, which the bundle cannot read. A test compares the two. */
const version = '0.1.0'

const description = `Signs people in by phone number: a one-time code is exchanged for an access token.

**Sign a person in**
1. \`POST /api/v1/auth/send-verification\` with \`phone\` sends a message with a code of six digits. Show the field for
   the code, and offer to send the code again after \`retry_after\` seconds.
2. \`POST /api/v1/auth/verify-code\` with \`phone\` and \`verification_code\` returns \`access_token\` and \`user\`. On
   \`invalid_code\`, ask again while \`attempts_remaining\` is above 0; otherwise send a new code.
3. Send \`Authorization: Bearer <access_token>\` with every other request. The token lives for \`expires_in\` seconds.
4. On 401, drop the token and start again at 1. \`POST /api/v1/auth/logout\` ends every token of the person.

**Errors.** Every response of 400 and above is a \`Problem\` (RFC 9457). Its \`code\` identifies the problem. On 429 and
503, repeat the request after \`retry_after\` seconds.

**Later versions** may add members to responses. They may also add values where a description says so;
\`x-extensible-enum\` lists the current values. Treat a member or value that you do not know as unknown, not as an
error. Types are never coerced, and members of a request that no schema names are ignored.

Every route returns an \`X-Request-Id\` of 1 to 64 characters of \`A-Za-z0-9_-\` as sent. The auth routes also respond
without \`/api/v1\`.`

const tags = [
  { name: 'auth', description: 'Signing in and out.' },
  { name: 'users', description: 'The account of the person who is signed in.' },
  { name: 'addresses', description: 'Up to 50 addresses of the person who is signed in.' },
  { name: 'health', description: 'Probes for an orchestrator.' },
  { name: 'webhooks', description: 'Requests that the service sends. Clients do not need them.' }
]

/** Headers of every response. */
const commonHeaders = {
  'X-Request-Id': { description: 'Identifies this request in the log.', schema: { type: 'string' } },
  'Cache-Control': { description: '`no-store`.', schema: { type: 'string' } }
}

/** Problems that any request to any route can get. */
const anywhere = problems(['request_timeout', 'headers_too_large', 'internal_error'])

/** Hash of the style element in the logo of Swagger UI. */
const styleHashes = ["'sha256-RL3ie0nH+Lzz2YNqQN83mnU0J1ot4QL7b99vMdIX99w='"]

type Examples = Record<string, { value: { errors?: Array<{ field: string }> } }>
interface Response {
  headers?: Record<string, object>
  content?: Record<string, { schema?: object, examples?: Examples }>
}
interface Document {
  paths: Record<string, Record<string, { responses: Record<string, Response> }>>
  components: object
}
type Components = Record<'headers' | 'responses' | 'schemas', Record<string, object>>

const mapValues = <T, U>(record: Record<string, T>, map: (value: T, key: string) => U): Record<string, U> =>
  Object.fromEntries(Object.entries(record).map(([key, value]) => [key, map(value, key)]))

/** Adds a part to the components under its name. Returns the reference to it. */
function component (components: Components, kind: keyof Components, name: string, part: object) {
  components[kind][name] = part
  return { $ref: `#/components/${kind}/${name}` }
}

/** Replaces a format that only this service knows with a pattern. */
function withPattern (schema: Record<string, unknown>): Record<string, unknown> {
  const { format, ...rest } = schema
  const patternOf = documentedPatterns[format as keyof typeof documentedPatterns]
  return patternOf ? { ...rest, pattern: patternOf(schema.pattern === notBlank) } : schema
}

/**
 * Moves every schema with a title to the components of a document. Examples are not schemas, even if they have a title.
 */
function nameSchemas (node: unknown, components: Components): unknown {
  if (Array.isArray(node)) return node.map((item) => nameSchemas(item, components))
  if (typeof node !== 'object' || node === null) return node
  const members: Record<string, unknown> = {}
  for (const [key, value] of Object.entries(node)) {
    members[key] = /^examples?$/.test(key) ? value : nameSchemas(value, components)
  }
  const { title, ...schema } = members
  return typeof title === 'string' ? component(components, 'schemas', title, schema) : withPattern(members)
}

/**
 * A name such as InvalidRequestOrUnsupportedPhoneAtPhone: the codes, then the field in the example of invalid_request.
 */
function problemName (examples: Examples) {
  const pascal = (text: string) => text.replace(/(?:^|_)([a-z])/g, (_match, letter: string) => letter.toUpperCase())
  const field = examples.invalid_request?.value.errors?.[0]?.field.slice(1)
  return Object.keys(examples).map(pascal).join('Or') + (field ? `At${pascal(field)}` : '')
}

/**
 * Adds the common headers to a response. Moves its headers, and the response itself if it is a problem, to the
 * components.
 */
function shareResponse (response: Response, components: Components): object {
  const headers = mapValues({ ...response.headers, ...commonHeaders },
    (header, name) => component(components, 'headers', name, header))
  const complete = { ...response, headers }
  const problem = response.content?.['application/problem+json']
  if (!problem) return complete
  const { examples } = problem
  const name = examples ? problemName(examples) + ('RateLimit-Limit' in headers ? 'WithRateLimit' : '') : 'OtherProblem'
  return component(components, 'responses', name, complete)
}

/** Adds the responses that every route can have, and moves shared responses, headers and schemas to the components. */
function complete ({ paths, components: given, ...document }: Document) {
  const components: Components = { headers: {}, responses: {}, schemas: {} }
  const operations = mapValues(paths, (path) => mapValues(path, (operation) => ({
    ...operation,
    responses: mapValues({ ...operation.responses, ...anywhere, default: otherProblem },
      (response) => shareResponse(response, components))
  })))
  const named = nameSchemas({ paths: operations, responses: components.responses }, components) as
    { paths: Record<string, object>, responses: Components['responses'] }
  return { ...document, paths: named.paths, components: { ...given, ...components, responses: named.responses } }
}

/**
 * Serves the OpenAPI 3.1 document of all routes that are registered later at /openapi.json, and Swagger UI at /docs.
 */
export default fp(async (app) => {
  await app.register(swagger, {
    openapi: {
      openapi: '3.1.0',
      info: { title: 'phone-auth', version, description, license: { name: 'MIT', identifier: 'MIT' } },
      servers: [{ url: '/', description: 'This service. Set the base URL of a generated client to its origin.' }],
      tags,
      security: [],
      webhooks: { message: messageWebhook as object },
      components: {
        securitySchemes: {
          accessToken: {
            type: 'http', scheme: 'bearer', bearerFormat: 'JWT', description: 'The `access_token` of a login.'
          }
        }
      }
    },
    convertConstToEnum: false,
    // The auth routes exist at two paths. Routes without a schema respond 405.
    transform: ({ schema, url }) => ({
      schema: {
        ...schema,
        params: schema?.documentedParams ?? schema?.params,
        hide: schema?.hide ?? (url.startsWith('/auth/') || !schema)
      },
      url
    }),
    transformObject: (document) => complete((document as { openapiObject: object }).openapiObject as Document)
  })
  app.get('/openapi.json', { schema: { hide: true } }, () => app.swagger())

  await app.register(async (docs) => {
    await docs.register(pageSecurity, { styleHashes })
    await docs.register(swaggerUi, {
      routePrefix: '/docs',
      uiConfig: { persistAuthorization: false, tryItOutEnabled: true },
      theme: { title: 'phone-auth' }
    })
  })
}, { name: 'openapi' })
