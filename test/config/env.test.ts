import { writeFileSync } from 'node:fs'
import { join } from 'node:path'
import t, { type Test } from 'tap'
import { ConfigError, loadConfig } from '../../src/config/index.js'
import { temporaryFolder } from '../helpers/servers.js'
import { productionEnv } from '../helpers/service.js'

const production: Record<string, string> = {
  ...productionEnv('postgres://u:p@db/app', 'redis://redis'),
  JWT_SECRET_PREVIOUS: 'previous-'.repeat(4),
  TEST_PHONES: '+13125550100=480513'
}
const twilio = {
  SMS_PROVIDER: 'twilio',
  TWILIO_ACCOUNT_SID: `AC${'0'.repeat(32)}`,
  TWILIO_FROM: '+15005550006',
  TWILIO_AUTH_TOKEN: 'twilio-token'
}

function issuesOf (env: Record<string, string>): string[] {
  try {
    loadConfig(env)
    return []
  } catch (error) {
    return (error as ConfigError).issues
  }
}

/** Writes a file and returns its path. */
async function fileOf (t: Test, content: string) {
  const folder = await temporaryFolder()
  t.teardown(folder.remove)
  const path = join(folder.path, 'value')
  writeFileSync(path, content)
  return path
}

/** Returns the environment with the value of one variable moved to a file. */
async function moved (t: Test, env: Record<string, string>, name: string, end = '') {
  const { [name]: value, ...rest } = env
  return { ...rest, [`${name}_FILE`]: await fileOf(t, `${value}${end}`) }
}

for (const [name, env] of [
  ...[
    'DATABASE_URL', 'REDIS_URL', 'JWT_SECRET', 'JWT_SECRET_PREVIOUS', 'CODE_SECRET', 'SMS_WEBHOOK_URL',
    'SMS_WEBHOOK_SECRET', 'TEST_PHONES'
  ].map((name) => [name, production] as const),
  ['TWILIO_AUTH_TOKEN', { ...production, ...twilio }] as const
]) {
  t.test(`loadConfig reads ${name} from the file in ${name}_FILE and removes line ends after it`, async (t) => {
    for (const end of ['', '\n', '\r\n']) t.strictSame(loadConfig(await moved(t, env, name, end)), loadConfig(env))
  })

  t.test(`loadConfig refuses ${name} together with ${name}_FILE and shows neither value`, async (t) => {
    const both = { ...env, ...await moved(t, env, name), [name]: env[name] as string }
    t.strictSame(issuesOf(both), [`${name} and ${name}_FILE are both set, set one of them`])
  })
}

t.test('loadConfig reports an unreadable file once, with the reason', async (t) => {
  const folder = await temporaryFolder()
  t.teardown(folder.remove)
  for (const [path, reason] of [[join(folder.path, 'missing'), 'ENOENT'], [folder.path, 'EISDIR']] as const) {
    const { JWT_SECRET, DATABASE_URL, ...rest } = production
    t.strictSame(issuesOf({ ...rest, JWT_SECRET_FILE: path, DATABASE_URL_FILE: path }).sort(), [
      `DATABASE_URL_FILE names a file that cannot be read (${reason}): ${path}`,
      `JWT_SECRET_FILE names a file that cannot be read (${reason}): ${path}`
    ])
  }
})

t.test('loadConfig refuses an empty file and treats an empty path as unset', async (t) => {
  const { JWT_SECRET, ...rest } = production
  const path = await fileOf(t, '\n')
  t.strictSame(issuesOf({ ...rest, JWT_SECRET_FILE: path }), [`JWT_SECRET_FILE names an empty file: ${path}`])
  t.strictSame(issuesOf({ ...rest, JWT_SECRET_FILE: '' }), ['JWT_SECRET is required'])
  t.strictSame(issuesOf({ ...production, JWT_SECRET_FILE: '' }), [])
})

t.test('an invalid value in a file is an issue of its variable, and the issue does not show it', async (t) => {
  const { DATABASE_URL, JWT_SECRET, ...rest } = production
  const issues = issuesOf({
    ...rest,
    DATABASE_URL_FILE: await fileOf(t, 'mysql://hunter2'),
    JWT_SECRET_FILE: await fileOf(t, 'hunter2')
  })
  t.match(issues, [/^DATABASE_URL must be/, /^JWT_SECRET must have/])
  t.notMatch(issues.join(), /hunter2/)
})

t.test('loadConfig reads only secrets and URLs from files', async (t) => {
  t.equal(loadConfig({ ...production, SMS_APP_NAME_FILE: '/nowhere' }).message.appName, 'Marque')
})
