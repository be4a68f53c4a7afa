import { execFile, spawn } from 'node:child_process'
import { readFileSync } from 'node:fs'
import { mkdir, mkdtemp, rm, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { text } from 'node:stream/consumers'
import { promisify } from 'node:util'
import t from 'tap'
import { until } from '../helpers/server-process.js'
import { newPhone, testService } from '../helpers/service.js'

const run = promisify(execFile)
const bin = (path: string) => join('node_modules', path)

/** What docs/api.md leaves to its reader, and what the types have to say. */
const before = `import { once } from 'node:events'
const phone = process.argv[2] as string
const ask = async () => String((await once(process.stdin, 'data'))[0])
`
const after = `
const token: string | undefined = data?.access_token
const isNew: boolean | undefined = data?.is_new_user
const isWrong = error?.code === 'invalid_code' && error.attempts_remaining === 0
const headers = { authorization: \`Bearer \${token}\` }
const me = await api.GET('/api/v1/users/me', { headers })
const market = me.data?.market
const one = await api.GET('/api/v1/profile/addresses/{id}', { headers, params: { path: { id: 1 } } })
// @ts-expect-error no such route
api.GET('/api/v1/users/you', {})
// @ts-expect-error the number is a text
const wrong = () => api.POST('/api/v1/auth/send-verification', { body: { phone: 996555123456 } })
// @ts-expect-error no such language
const other = () => api.PATCH('/api/v1/users/me', { body: { language: 'zz' } })
process.stdout.write(JSON.stringify({ isNew, market, me: me.data?.phone_number, one: one.error?.code }))
process.stdin.destroy()
`

t.test('the generated client of docs/api.md compiles under strict and signs in', { timeout: 90_000 }, async (t) => {
  const document = readFileSync('docs/api.md', 'utf8')
  const [, lines] = /## Typed clients[\s\S]*?```ts\n([\s\S]*?)```/.exec(document) as unknown as [string, string]
  t.equal(lines.trim().split('\n').length, 5)
  // A folder below this one, where Node finds the packages.
  await mkdir('build', { recursive: true })
  const folder = await mkdtemp('build/client-')
  t.teardown(() => rm(folder, { recursive: true }))
  const service = await testService(t)

  await run(
    process.execPath, [bin('openapi-typescript/bin/cli.js'), 'openapi.json', '-o', join(folder, 'phone-auth.d.ts')]
  )
  await writeFile(join(folder, 'package.json'), '{ "type": "module" }')
  await writeFile(join(folder, 'login.ts'), before + lines.replace('http://localhost:3000', service.url) + after)
  const strict = [
    '--strict', '--exactOptionalPropertyTypes', '--noUncheckedIndexedAccess', '--module', 'nodenext', '--target',
    'es2023', '--types', 'node'
  ]
  await run(process.execPath, [bin('typescript/bin/tsc'), ...strict, '--skipLibCheck', join(folder, 'login.ts')])
    .catch(({ stdout }) => t.fail(stdout))

  const phone = newPhone()
  const program = spawn(process.execPath, [join(folder, 'login.js'), phone], { stdio: ['pipe', 'pipe', 'inherit'] })
  await until(() => service.sms.length > 0)
  program.stdin.write(service.codeOf(phone))
  t.strictSame(JSON.parse(await text(program.stdout)), { isNew: true, market: 'kg', me: phone, one: 'not_found' })
})
