import { existsSync, readdirSync, readFileSync } from 'node:fs'
import { join } from 'node:path'
import t from 'tap'
import { Problem, type ProblemCode, ProblemSchema } from '../../src/http/problems.js'

/*
 * Compares the documents with the code and with each other. Other tests run what the documents show: metrics, the ACL
 * user, typed clients, the alerts of the runbook, the variables of .env.example.
 */

const read = (path: string) => readFileSync(path, 'utf8')
const documents = ['README.md', 'SECURITY.md', 'CONTRIBUTING.md',
  ...readdirSync('docs').filter((file) => file.endsWith('.md')).map((file) => `docs/${file}`)]

const withoutCode = (text: string) => text.replace(/^```[\s\S]*?^```$/gm, '')

/** A section of a document, from below its heading to the next heading of the same level or above. */
function sectionOf (document: string, heading: string): string {
  const { length } = /^#+/.exec(heading)?.[0] ?? ''
  const [, below = ''] = read(document).split(`\n${heading}\n`)
  return below.split(new RegExp(`^#{1,${length}} `, 'm'))[0] as string
}

/** The cells of the tables in a text, row by row. */
const rowsOf = (text: string) => text.split('\n').filter((line) => line.startsWith('| '))
  .map((line) => line.slice(2).split(/ \|(?: |$)/))
const cellsOf = (text: string, column: number) => rowsOf(text).map((cells) => cells[column] ?? '').join('\n')

const quotedIn = (text: string) => [...text.matchAll(/`([^`\n]+)`/g)].map(([, name]) => name as string)
const variablesIn = (text: string) =>
  [...new Set(quotedIn(text).filter((name) => /^[A-Z][A-Z0-9_]+(<[A-Z]+>)?$/.test(name)))]
const codesIn = (text: string) => quotedIn(text).filter((name) => /^[a-z_]+$/.test(name))

/** The routes that a text names: `GET /a`, `PUT, PATCH /a`, `GET /a, /b`. Any method stands for GET. */
function routesIn (text: string): string[] {
  const found: string[] = []
  let [methods, next]: [string[], string[]] = [[], []]
  for (const part of text.replaceAll('`', '').split(/, |\n/)) {
    const [, method, path] = /^(?:([A-Z]+|any method)(?: |$))?(\/\S*)?$/.exec(part) ?? []
    if (method) next.push(method.replace('any method', 'GET'))
    if (!path) continue
    if (next.length > 0) [methods, next] = [next, []]
    found.push(...methods.map((one) => `${one} ${path}`))
  }
  return found
}

/** The anchors that GitHub makes of the headings of a document. */
const anchorsOf = (document: string) => [...withoutCode(read(document)).matchAll(/^#+ (.*)$/gm)]
  .map(([, heading = '']) => heading.toLowerCase().replace(/[^\p{L}\p{N}_\- ]/gu, '').replaceAll(' ', '-'))

const source = readdirSync('src', { recursive: true, encoding: 'utf8' })
  .filter((file) => file.endsWith('.ts')).map((file) => read(join('src', file))).join('\n')
const variables = [...read('.env.example').matchAll(/^(?:# )?([A-Z][A-Z0-9_]*)=/gm)].map(([, name]) => name as string)
const codes = (ProblemSchema.properties.code as unknown as { 'x-extensible-enum': ProblemCode[] })['x-extensible-enum']
const { paths } = JSON.parse(read('openapi.json')) as { paths: Record<string, object> }
const routes = [
  ...Object.entries(paths).flatMap(([path, methods]) => Object.keys(methods)
    .map((method) => `${method.toUpperCase()} ${path.replace('/api/v1', '').replace(/\{(\w+)\}/g, ':$1')}`)),
  // Not in the document: one is any path below a route, the others serve the document.
  'GET /auth/verify-token/*', 'GET /openapi.json', 'GET /docs'
]

t.test('the README has at most 150 lines and leads to every document', async (t) => {
  const readme = read('README.md')

  t.ok(readme.trimEnd().split('\n').length <= 150)
  for (const document of documents.slice(1)) t.ok(readme.includes(`](${document})`), document)
})

t.test('every link between the documents leads to a file, and to a heading of it', async (t) => {
  for (const document of documents) {
    for (const [, target = ''] of withoutCode(read(document)).matchAll(/\]\((?!https?:)([^)\s]+)\)/g)) {
      const { pathname, hash } = new URL(target, `file:///${document}`)
      const isFound = existsSync(`.${pathname}`)

      t.ok(isFound, `${document}: ${target}`)
      if (isFound && hash !== '') t.ok(anchorsOf(`.${pathname}`).includes(hash.slice(1)), `${document}: ${target}`)
    }
  }
})

t.test('no document has two headings with the same anchor', async (t) => {
  for (const document of documents) t.strictSame([...new Set(anchorsOf(document))], anchorsOf(document), document)
})

t.test('docs/configuration.md has a row for each variable, and for no other', async (t) => {
  t.strictSame(variablesIn(cellsOf(read('docs/configuration.md'), 0)).sort(), variables.sort())
})

t.test('docs/api.md lists each problem code with its status, and no other', async (t) => {
  const listed = rowsOf(sectionOf('docs/api.md', '## Problems')).flatMap(([statuses = '', names = '']) =>
    codesIn(names).map((code, index) => `${statuses.split(', ')[index] ?? statuses} ${code}`))

  t.strictSame(listed.sort(), codes.map((code) => `${new Problem(code).statusCode} ${code}`).sort())
})

t.test('docs/api.md lists each route, and no other', async (t) => {
  t.strictSame(routesIn(cellsOf(sectionOf('docs/api.md', '## Routes'), 0)).sort(), routes.sort())
})

t.test('docs/operations.md lists each log event, and no other', async (t) => {
  const written = [...source.matchAll(/event: '(\w+)'|\baudit\((?:request, )?'(\w+)'/g)]
    .map(([, event, audited]) => event ?? audited)

  t.strictSame(codesIn(cellsOf(sectionOf('docs/operations.md', '## Logs'), 0)).sort(), [...new Set(written)].sort())
})

t.test('what the contract names exists, or is listed as not built yet', async (t) => {
  const notBuilt = cellsOf(sectionOf('docs/contract.md', '## State of the code'), 1)
  const missing = (named: string[], built: string[]) =>
    [...new Set(named)].filter((name) => !built.includes(name)).sort()

  const namedVariables = variablesIn(cellsOf(sectionOf('docs/contract.md', '## 3. Configuration'), 0))
  const namedCodes = codesIn(cellsOf(sectionOf('docs/contract.md', '### Errors'), 1))
  const namedRoutes = routesIn(cellsOf(sectionOf('docs/contract.md', '### Routes'), 0))
  const listedRoutes = quotedIn(notBuilt).flatMap(routesIn)
  t.strictSame(variablesIn(notBuilt).sort(), missing(namedVariables, variables))
  t.strictSame(missing(namedCodes, codes), codesIn(notBuilt).filter((name) => namedCodes.includes(name)).sort())
  t.strictSame(codes.filter((code) => codesIn(notBuilt).includes(code)), [])
  t.strictSame(listedRoutes.sort(), missing(namedRoutes, routes))
})

t.test('every path that docs/architecture.md names exists', async (t) => {
  const named = quotedIn(read('docs/architecture.md'))
    .filter((name) => /^[\w.-]+(\/[\w.-]+)*(\.(ts|js|json)|\/)$/.test(name))

  t.ok(named.length > 40)
  for (const path of named) t.ok(existsSync(join('src', path)) || existsSync(path), path)
})

t.test('the security review has a row for each production dependency', async (t) => {
  const { dependencies } = JSON.parse(read('package.json')) as { dependencies: Record<string, string> }
  const [, ...packages] = rowsOf(sectionOf('docs/security-review.md', '## Dependencies')).map(([name]) => name)

  t.strictSame(packages.filter((name) => name !== '---').sort(), [...Object.keys(dependencies), 'fast-jwt'].sort())
})
