import { execFileSync } from 'node:child_process'
import { randomUUID } from 'node:crypto'
import { statSync } from 'node:fs'
import { chmod, cp, mkdir, readdir } from 'node:fs/promises'
import { userInfo } from 'node:os'
import { join } from 'node:path'
import t, { type Test } from 'tap'
import { asSystemUser, asThisUser, reachablePrograms, run } from '../../src/dev/postgres-host.js'
import { temporaryFolder } from '../helpers/servers.js'

const isRoot = process.getuid?.() === 0
const { uid, gid, username } = userInfo()

async function emptyFolder (t: Test) {
  const { path, remove } = await temporaryFolder()
  t.teardown(remove)
  return path
}

t.test('the error of a failed program is the one line with the reason', async (t) => {
  const failing = (text: string) => run('sh', ['-c', `printf '${text}' >&2; exit 1`], { input: 'x'.repeat(1_000_000) })

  await t.rejects(failing('first\nlast\n'), { message: 'last' })
  await t.rejects(failing('2026-11-28 UTC [1] LOG:  a\n2026-11-28 UTC [1] FATAL:  b\nc\n'), { message: 'b' })
  await t.rejects(failing('initdb: error: d\ninitdb: hint: e\n'), { message: 'initdb: error: d' })
  await t.rejects(run('/nonexistent', []), { message: /^[^\n]+ENOENT$/ })
})

t.test('a system user runs the programs where npm installed them', async (t) => {
  const home = await emptyFolder(t)
  const installed = await asThisUser()
  const host = await asSystemUser(username, home)

  t.match(installed, { uid, gid, dataDir: '.' })
  t.match(host, { uid, gid, programs: installed.programs, dataDir: '/proc/self/cwd' })
})

t.test('only root creates a missing system user, without a password and a shell', async (t) => {
  const name = `pa-${randomUUID().slice(0, 8)}`
  const created = asSystemUser(name, await emptyFolder(t))

  if (!isRoot) return await t.rejects(created, { message: /^[^\n]+$/ })
  t.teardown(() => execFileSync('userdel', [name]))
  t.match(await created, { uid: Number(execFileSync('id', ['-u', name])), dataDir: '/proc/self/cwd' })
  t.match(execFileSync('getent', ['passwd', name], { encoding: 'utf8' }), /:\/usr\/sbin\/nologin\n$/)
  t.match(execFileSync('getent', ['shadow', name], { encoding: 'utf8' }), new RegExp(`^${name}:!`))
})

t.test('programs that a user cannot execute are copied once, for all users to read and none to change', async (t) => {
  const [checkout, home] = [join(await emptyFolder(t), 'closed'), join(await emptyFolder(t), 'home')]
  const { programs } = await asThisUser()
  await mkdir(checkout)
  await cp(join(programs, '../..'), checkout, { recursive: true, verbatimSymlinks: true })
  // As root, the closed folder keeps the other user out. An owner that is not root loses the right to execute.
  await chmod(join(checkout, 'native/bin/postgres'), 0o611)
  await chmod(join(checkout, 'native/lib'), 0o700)
  await chmod(checkout, 0o700)
  const user = isRoot ? { uid: 65_534, gid: 65_534 } : { uid, gid }

  const copies = await Promise.all([1, 2].map(() => reachablePrograms(join(checkout, 'native/bin'), user, home)))
  t.equal(copies[0], copies[1])
  t.equal(await reachablePrograms(join(checkout, 'native/bin'), user, home), copies[0])
  t.match(await run(join(copies[0] as string, 'postgres'), ['--version'], user), /^postgres \(PostgreSQL\)/)
  t.equal((await readdir(home)).length, 1)
  for (const path of [home, join(copies[0] as string, '../lib'), join(copies[0] as string, 'postgres')]) {
    t.equal(statSync(path).mode & 0o777, 0o755, path)
    t.equal(statSync(path).uid, uid, path)
  }
})

t.test('a copy that does not run is not kept', async (t) => {
  const [checkout, home] = [await emptyFolder(t), await emptyFolder(t)]
  await cp(join((await asThisUser()).programs, '../../package.json'), join(checkout, 'package.json'))
  await mkdir(join(checkout, 'native/bin'), { recursive: true })

  await t.rejects(reachablePrograms(join(checkout, 'native/bin'), { uid, gid }, home), { message: /ENOENT/ })
  t.strictSame(await readdir(home), [])
})
