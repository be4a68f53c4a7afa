import { readdirSync, readFileSync } from 'node:fs'
import { dirname, join, normalize } from 'node:path'
import t from 'tap'
import ts from 'typescript'

/*
 * The rules of who may import whom. Type-only imports count: what a file needs to be understood is what it depends on.
 */

/** Top first: a file may import its own folder and the layers below. The folders of one layer do not import each other. */
const layers = [
  /^(server|migrate|dev|doctor)\.ts$/,
  /^(process|dev|doctor)\//,
  /^app\.ts$/,
  /^config\//,
  /^account\//,
  /^(auth\/(?!codes\/|tokens\/)|profile\/|health\/)/,
  /^auth\/(codes|tokens)\//,
  /^users\//,
  /^limits\//,
  /^plugins\//,
  /^messages\//,
  /^(db|redis)\//,
  /^monitoring\//,
  /^http\//,
  /^phone\//
]

/** The folder that a file belongs to: two levels deep where folders inside of one have layers of their own. */
const folderOf = (file: string) => /^auth\/(codes|tokens)(?=\/)|^[^/]*(?=\/)/.exec(file)?.[0]

/** Packages that only the named files may import; a module of Node by its node: name. */
const reserved: Record<string, string[]> = {
  ioredis: ['plugins/redis.ts', 'redis/connect.ts', 'redis/probe.ts'],
  pg: ['db/database.ts', 'db/errors.ts', 'db/migrate.ts', 'dev/postgres-folder.ts'],
  twilio: ['messages/providers/twilio.ts'],
  'node:process': []
}

/** Who may read the environment. */
const readsEnvironment = ['server.ts', 'migrate.ts', 'dev.ts', 'doctor.ts']

/** Only these, and what they alone import, run where devDependencies are installed. */
const developmentOnly = ['dev.ts', 'dev/playground.ts', 'dev/postgres.ts', 'dev/postgres-host.ts', 'dev/postgres-folder.ts']

const maxLines = 250

/** Every import of a module, be it `import`, `import type`, `export from`, `import()` or a type `import('…')`. */
function importsOf (source: ts.SourceFile): string[] {
  const found: string[] = []
  const visit = (node: ts.Node) => {
    const specifier = ts.isImportDeclaration(node) || ts.isExportDeclaration(node)
      ? node.moduleSpecifier
      : ts.isCallExpression(node) && node.expression.kind === ts.SyntaxKind.ImportKeyword
        ? node.arguments[0]
        : ts.isImportTypeNode(node) && ts.isLiteralTypeNode(node.argument) ? node.argument.literal : undefined
    if (specifier) found.push(ts.isStringLiteralLike(specifier) ? specifier.text : '(computed)')
    ts.forEachChild(node, visit)
  }
  visit(source)
  return found
}

/** Whether a file uses `process` for anything but a member other than env: so no detour reaches the environment either. */
function readsEnv (source: ts.SourceFile): boolean {
  let found = false
  const visit = (node: ts.Node) => {
    if (ts.isIdentifier(node) && node.text === 'process') {
      const { parent } = node
      found ||= !(ts.isPropertyAccessExpression(parent) && (parent.name === node || parent.name.text !== 'env'))
    }
    ts.forEachChild(node, visit)
  }
  visit(source)
  return found
}

const parsed = new Map<string, ts.SourceFile>()
function parse (file: string, content: string): ts.SourceFile {
  const source = parsed.get(file + content) ?? ts.createSourceFile(file, content, ts.ScriptTarget.Latest, true)
  parsed.set(file + content, source)
  return source
}

/** All that breaks a rule in `files`, source texts by their path in src. */
function violations (files: Map<string, string>, dependencies: Set<string>): string[] {
  const broken: string[] = []
  const graph = new Map<string, string[]>()
  const layerOf = (file: string) => {
    const layer = layers.findIndex((path) => path.test(file))
    return layer === -1 ? undefined : layer
  }

  for (const [file, content] of files) {
    const source = parse(file, content)
    const imports = importsOf(source)
    const own = imports.filter((name) => name.startsWith('.')).map((name) => normalize(join(dirname(file), name)).replace(/\.js$/, '.ts'))
    graph.set(file, own)

    const layer = layerOf(file)
    if (layer === undefined) broken.push(`${file} is in no layer`)
    for (const other of own) {
      const otherLayer = layerOf(other)
      if (!files.has(other)) broken.push(`${file} imports ${other}, which is not in src`)
      else if (layer === undefined || otherLayer === undefined) continue
      else if (otherLayer < layer) broken.push(`${file} imports ${other} upward`)
      else if (otherLayer === layer && folderOf(file) !== folderOf(other)) broken.push(`${file} imports ${other} sideways`)
    }

    for (const name of imports.filter((name) => !name.startsWith('.'))) {
      const specifier = name.startsWith('node:') ? name : name.split('/').slice(0, name.startsWith('@') ? 2 : 1).join('/')
      if (reserved[specifier]?.includes(file) === false) broken.push(`${file} imports ${specifier}`)
      if (!name.startsWith('node:') && !developmentOnly.includes(file) && !dependencies.has(specifier)) {
        broken.push(`${file} imports ${specifier}, which is no dependency of production`)
      }
    }
    if (readsEnv(source) && !readsEnvironment.includes(file)) broken.push(`${file} reads the environment`)
    if (content.split('\n').length - 1 > maxLines) broken.push(`${file} has more than ${maxLines} lines`)
  }

  for (const [file, own] of graph) {
    if (!developmentOnly.includes(file) && own.some((other) => developmentOnly.includes(other))) broken.push(`${file} imports what is for development only`)
  }
  const finished = new Set<string>()
  const walk = (file: string, path: string[]) => {
    if (path.includes(file)) broken.push(`a circle: ${[...path.slice(path.indexOf(file)), file].join(' > ')}`)
    else if (!finished.has(file)) for (const other of graph.get(file) ?? []) walk(other, [...path, file])
    finished.add(file)
  }
  for (const file of graph.keys()) walk(file, [])
  return broken
}

const files = new Map(readdirSync('src', { recursive: true, encoding: 'utf8' })
  .filter((file) => file.endsWith('.ts')).map((file) => [file, readFileSync(join('src', file), 'utf8')]))
const { dependencies } = JSON.parse(readFileSync('package.json', 'utf8')) as { dependencies: Record<string, string> }
const packages = new Set(Object.keys(dependencies))

t.test('every import in src is allowed, types included, without circles, and no file is long', async (t) => {
  t.ok(files.size > 20)
  t.strictSame(violations(files, packages), [])
})

t.test('each rule is broken by a planted violation', async (t) => {
  const plant = (file: string, line: string) => violations(new Map([...files, [file, `${line}\n${files.get(file) ?? ''}`]]), packages)
  const planted: Array<[file: string, line: string, violation: string]> = [
    ['plugins/cors.ts', "import type { Config } from '../config/index.js'", 'plugins/cors.ts imports config/index.ts upward'],
    ['plugins/redis.ts', "import type { User } from '../users/repository.js'", 'plugins/redis.ts imports users/repository.ts upward'],
    ['users/index.ts', "export { buildApp } from '../app.js'", 'users/index.ts imports app.ts upward'],
    ['users/index.ts', "type App = typeof import('../app.js')", 'users/index.ts imports app.ts upward'],
    ['users/index.ts', "await import('../app.js')", 'users/index.ts imports app.ts upward'],
    ['auth/codes/code.ts', "import type {} from '../service.js'", 'auth/codes/code.ts imports auth/service.ts upward'],
    ['auth/codes/code.ts', "import type {} from '../tokens/token.js'", 'auth/codes/code.ts imports auth/tokens/token.ts sideways'],
    ['profile/index.ts', "import { authRoutes } from '../auth/index.js'", 'profile/index.ts imports auth/index.ts sideways'],
    ['auth/index.ts', "import type { Address } from '../profile/repository.js'", 'auth/index.ts imports profile/repository.ts sideways'],
    ['db/batch.ts', "import type { Redis } from '../redis/connect.js'", 'db/batch.ts imports redis/connect.ts sideways'],
    ['users/schemas.ts', "import type {} from './index.js'", 'a circle: '],
    ['phone/markets.ts', "import type {} from './phone-number.js'", 'a circle: '],
    ['auth/service.ts', "import type { Redis } from 'ioredis'", 'auth/service.ts imports ioredis'],
    ['messages/index.ts', "import twilio from 'twilio'", 'messages/index.ts imports twilio'],
    ['users/repository.ts', "import pg from 'pg'", 'users/repository.ts imports pg'],
    ['messages/text.ts', "import pg from 'pg/lib/utils'", 'messages/text.ts imports pg'],
    ['config/index.ts', 'const url = process.env.DATABASE_URL', 'config/index.ts reads the environment'],
    ['config/index.ts', "const url = process['env'].DATABASE_URL", 'config/index.ts reads the environment'],
    ['config/index.ts', 'const { env } = process', 'config/index.ts reads the environment'],
    ['config/index.ts', "import { env } from 'node:process'", 'config/index.ts imports node:process'],
    ['app.ts', "import pretty from 'pino-pretty'", 'app.ts imports pino-pretty, which is no dependency of production'],
    ['process/serve.ts', "import '../dev/postgres.js'", 'process/serve.ts imports what is for development only'],
    ['app.ts', "import './missing.js'", 'app.ts imports missing.ts, which is not in src'],
    ['other/new.ts', '', 'other/new.ts is in no layer'],
    ['app.ts', '\n'.repeat(250), 'app.ts has more than 250 lines']
  ]
  for (const [file, line, violation] of planted) t.ok(plant(file, line).some((found) => found.startsWith(violation)), `${file}: ${line.trim()}`)
})
