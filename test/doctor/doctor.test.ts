import { Redis } from 'ioredis'
import t, { type Test } from 'tap'
import { migrate } from '../../src/db/migrate.js'
import { errorText } from '../../src/doctor/finding.js'
import { examine } from '../../src/doctor/index.js'
import { checkTls, checkVersion } from '../../src/doctor/postgres.js'
import {
  checkMemory, checkPersistence, checkVersion as checkRedisVersion, unreachable
} from '../../src/doctor/redis.js'
import { testRole } from '../helpers/catalog.js'
import { freePort } from '../helpers/free-port.js'
import { startCluster, startSentinel } from '../helpers/redis-topologies.js'
import { startProcess, until } from '../helpers/server-process.js'
import { startRedis, temporaryFolder } from '../helpers/servers.js'
import { productionEnv, testDatabase, usersTable } from '../helpers/service.js'
import { startPooler } from '../helpers/pooler.js'

/** Starts a Redis with a folder of its own. */
async function redisOf (t: Test, ...args: string[]) {
  const folder = await temporaryFolder()
  const server = await startRedis({ args: ['--dir', folder.path, ...args] })
  t.teardown(async () => {
    await server.stop()
    await folder.remove()
  })
  return server
}

/** A database with a users table, and its URL with a role that has only the necessary rights. */
async function databaseOf (t: Test, more = '', table = usersTable) {
  const role = await testRole(t)
  const { url, sql } = await testDatabase(t, { isEmpty: true })
  await sql(table)
  await migrate(url)
  await sql(`GRANT SELECT, INSERT, UPDATE, DELETE ON users, user_addresses TO ${role.name};
    GRANT USAGE ON SEQUENCE users_id_seq, user_addresses_id_seq TO ${role.name}`)
  await sql(more.replaceAll('ROLE_NAME', role.name))
  t.teardown(() => sql('DROP TABLE IF EXISTS user_addresses, other_addresses, users'))
  return { url: role.in(url), ownerUrl: url, sql }
}

/** Runs the doctor. Returns its exit code, its lines, and those that are not ok. */
async function report (env: Record<string, string | undefined>, clock?: () => number) {
  const lines: string[] = []
  const code = await examine(env, (line) => lines.push(line), clock)
  const text = lines.join('\n')
  for (const secret of [env.JWT_SECRET, env.CODE_SECRET, 'secret@']) {
    if (secret && text.includes(secret)) throw new Error('the report shows a secret')
  }
  return { code, lines, bad: lines.slice(0, -1).filter((line) => !line.startsWith('ok')) }
}

t.test('on a healthy installation every line is ok, the exit code is 0 and nothing is changed', async (t) => {
  const [{ url, sql }, redis] = [
    await databaseOf(t, "INSERT INTO users (phone_number) VALUES ('+996700123456')"),
    await redisOf(t, '--appendonly', 'yes')
  ]
  const before = await sql('SELECT xmin::text, * FROM users')
  const env = productionEnv(url, redis.url)

  const { code, stdout, stderr } = await startProcess(t, 'doctor', { env }).closed
  t.strictSame([code, stderr], [0, ''])
  const subjects = [
    'configuration', 'PostgreSQL', 'PostgreSQL TLS', 'PostgreSQL version', 'PostgreSQL clock', 'PostgreSQL writes',
    'PostgreSQL role', 'PostgreSQL prepared statements', 'users', 'users triggers', 'users row level security',
    'PostgreSQL rights', 'users numbers', 'Redis', 'Redis topology', 'Redis rights', 'Redis writes', 'Redis version',
    'Redis eviction', 'Redis persistence', 'Redis memory'
  ]
  const lines = stdout.trimEnd().split('\n')
  t.strictSame(lines.slice(0, -1).map((line) => /^ok {7}([\w ]+): \S/.exec(line)?.[1]), subjects)
  t.equal(lines.at(-1), `${subjects.length} ok, 0 warnings, 0 problems`)
  t.strictSame(await sql('SELECT xmin::text, * FROM users'), before)
  const client = new Redis(redis.url)
  t.teardown(() => client.disconnect())
  t.strictSame(await client.keys('*'), [])
})

t.test('every wrong variable is a problem, and the stores are still checked', async (t) => {
  const [{ url }, redis] = [await databaseOf(t), await redisOf(t)]
  const { code, lines } = await report({
    ...productionEnv(url, redis.url), JWT_SECRET: 'short', SMS_PROVIDER: 'pigeon'
  })

  t.equal(code, 1)
  t.match(
    lines.slice(0, 2),
    [/^problem {2}configuration: JWT_SECRET must have/, /^problem {2}configuration: SMS_PROVIDER must be one of/]
  )
  t.ok(lines.some((line) => /^ok +PostgreSQL: reachable/.test(line)))
  t.ok(lines.some((line) => /^ok +Redis: reachable/.test(line)))
})

t.test('without the URL of a store only the configuration is checked', async (t) => {
  const { code, lines } = await report({ NODE_ENV: 'production', DATABASE_URL: 'mysql://u:hunter2@127.0.0.1/db' })

  t.equal(code, 1)
  t.notMatch(lines.join('\n'), /reachable|hunter2/)
  t.match(lines.at(-1), /^0 ok, 0 warnings, \d problems$/)
})

t.test('warnings alone leave the exit code 0, and codes in memory are ok in development', async (t) => {
  const { url } = await databaseOf(t)
  const { JWT_SECRET: jwtSecret, CODE_SECRET: _codeSecret, ...env } = productionEnv(url, '')
  const development = await report({ ...env, NODE_ENV: 'development', REDIS_URL: '' })
  const redis = await redisOf(t, '--appendonly', 'yes')
  const production = await report({ ...env, JWT_SECRET: jwtSecret, REDIS_URL: redis.url })

  t.strictSame([development.code, development.bad], [0, []])
  t.ok(development.lines.some((line) => /^ok +Redis: none/.test(line)))
  t.equal(production.code, 0)
  t.match(production.bad, [/^warning +configuration: CODE_SECRET is not set/])
})

t.test('a store that is not reachable is a problem with the reason', async (t) => {
  const port = await freePort()
  const { code, bad } = await report(
    productionEnv(`postgres://u:hunter2@127.0.0.1:${port}/db`, `redis://127.0.0.1:${port}`)
  )

  t.equal(code, 1)
  t.match(
    bad, [/^problem +PostgreSQL: not reachable: .*ECONNREFUSED/, /^problem +Redis: not reachable: .*ECONNREFUSED/]
  )
  t.notMatch(bad.join('\n'), /hunter2/)
})

t.test('a password that a store refuses is a problem with the reason', async (t) => {
  const [{ url }, redis] = [await databaseOf(t), await startRedis({ password: 'right' })]
  t.teardown(redis.stop)
  const { bad } = await report(
    productionEnv(url.replace(':secret@', ':hunter2@'), redis.url.replace('//', '//:hunter2@'))
  )

  t.match(
    bad,
    [/^problem +PostgreSQL: not reachable: password authentication failed/, /^problem +Redis: not reachable: WRONGPASS/]
  )
  t.notMatch(bad.join('\n'), /hunter2/)
})

/** Faults of PostgreSQL and of the table, each with the lines that are not ok. */
const databases: Array<[kind: string, more: string, bad: RegExp[], env?: Record<string, string>]> = [
  ['no UNIQUE', 'ALTER TABLE users DROP CONSTRAINT users_phone_number_key',
    [/^problem +users: column phone_number has no UNIQUE/, /^warning +users numbers: not checked/]],
  ['row level security', 'ALTER TABLE users ENABLE ROW LEVEL SECURITY', [
    /^problem +users: row level security for DELETE/, /^problem +users: row level/, /^problem +users: row level/,
    /^problem +users: row level/, /^warning +users row level security: applies/, /^warning +users numbers: not checked/
  ]],
  ['a trigger', `CREATE FUNCTION touch() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NEW; END';
    CREATE TRIGGER users_touch BEFORE UPDATE ON users FOR EACH ROW EXECUTE FUNCTION touch()`,
  [/^warning +users triggers: users_touch: make sure/]],
  ['few rights', `REVOKE INSERT, DELETE ON users FROM ROLE_NAME; GRANT INSERT (market) ON users TO ROLE_NAME;
    REVOKE USAGE ON SEQUENCE users_id_seq FROM ROLE_NAME`, [
    /^problem +PostgreSQL rights: GRANT INSERT \(phone_number, is_active.*\) ON users is missing/,
    /GRANT DELETE ON users is/, /GRANT USAGE ON SEQUENCE public\.users_id_seq is/,
    /^warning +users numbers: not checked/
  ]],
  [
    'no addresses', 'ALTER TABLE user_addresses RENAME TO other_addresses',
    [/^warning +user_addresses: there is no such table/]
  ],
  ['a read-only default', `DO $$ BEGIN
    EXECUTE format('ALTER DATABASE %I SET default_transaction_read_only = on', current_database()); END $$`,
  [/^problem +PostgreSQL writes: the connection is read-only/]],
  [
    'prepared statements off', '', [/^warning +PostgreSQL prepared statements: not used although/],
    { DATABASE_PREPARED_STATEMENTS: 'false' }
  ],
  ['numbers that cannot sign in', `
    INSERT INTO users (phone_number) SELECT '99655500010' || n FROM generate_series(1, 5) AS n;
    INSERT INTO users (phone_number) VALUES ('+996555000101'), ('+996 555 000 105'), ('+79161234567'),
      ('+9965551234567'), ('+9960555123456'), ('none'), ('+13125550100')`, [
    /^warning +users numbers: 8 \(•••••••01, •••••••02, •••••••03\) of 12 are not in E\.164/,
    /^warning +users numbers: 1 \(•••••••67\) of 12 are of no market/,
    /^warning +users numbers: 1 \(\+996•••••••67\) of 12 are refused/,
    /^warning +users duplicates: 2 \(\+996•••••••05, \+996•••••••01\)/
  ], { TEST_PHONES: '+13125550100=480513', NODE_ENV: 'test' }]
]

t.test('the report names each fault of PostgreSQL and of the table', async (t) => {
  const redis = await redisOf(t, '--appendonly', 'yes')
  for (const [kind, more, expected, env] of databases) {
    await t.test(kind, async (t) => {
      const { url } = await databaseOf(t, more)
      const { code, bad } = await report({ ...productionEnv(url, redis.url), ...env })
      t.match(bad, expected)
      t.equal(bad.length, expected.length, bad.join('\n'))
      t.equal(code, Number(expected.some((line) => /problem/.test(String(line)))))
    })
  }

  await t.test('a superuser, a clock that is ahead, a missing table', async (t) => {
    const { url } = await testDatabase(t, { isEmpty: true })
    const { bad } = await report(productionEnv(url, redis.url), () => Date.now() + 10_000)
    t.match(
      bad,
      [
        /^warning +PostgreSQL clock: 10 s apart/, /^warning +PostgreSQL role: \w+ is a superuser/,
        /^problem +users: no table users: npm run db:migrate/
      ]
    )
    t.equal(bad.length, 3)
  })

  await t.test('a check that fails ends only the checks of PostgreSQL', async (t) => {
    const { url, sql } = await databaseOf(t)
    await sql(
      'CREATE FUNCTION refuse() RETURNS BOOLEAN LANGUAGE plpgsql AS $$ BEGIN RAISE EXCEPTION SQLSTATE \'57014\'; END $$'
    )
    await sql('ALTER TABLE users ADD CHECK (refuse()) NOT VALID')
    const { code, bad, lines } = await report(productionEnv(url, redis.url))
    t.match(bad, [/^problem +PostgreSQL: a check failed: /])
    t.equal(code, 1)
    t.ok(lines.some((line) => /^ok +Redis: reachable/.test(line)))
  })
})

for (const [mode, isUsed, line] of [
  ['keep', 'true', /^ok +PostgreSQL prepared statements: the pooler keeps them/],
  [
    'swap', 'true',
    /^problem +PostgreSQL prepared statements: the pooler loses them: set DATABASE_PREPARED_STATEMENTS=false/
  ],
  ['exhaust', 'true', /^warning +PostgreSQL prepared statements: not checked: Query read timeout/],
  ['swap', 'false', /^ok +PostgreSQL prepared statements: not used, there is a pooler/]
] as const) {
  const title = `the report is right behind a pooler in mode "${mode}" with DATABASE_PREPARED_STATEMENTS=${isUsed}`
  t.test(title, async (t) => {
    const { url } = await databaseOf(t)
    const env = {
      ...productionEnv(await startPooler(t, url, mode), ''),
      REDIS_URL: '',
      NODE_ENV: 'test',
      DATABASE_PREPARED_STATEMENTS: isUsed
    }

    const { lines } = await report(env)
    t.ok(lines.some((found) => line.test(found)), lines.join('\n'))
  })
}

/** Gives the user of a Redis these rights and no others. */
async function restrict (t: Test, url: string, rules: string) {
  const client = new Redis(url)
  t.teardown(() => client.disconnect())
  await client.call('ACL', 'SETUSER', 'default', 'reset', 'on', 'nopass', ...rules.split(' '))
}

/** Makes a Redis in cluster mode a Cluster of one node. */
async function ownAllSlots (t: Test, url: string) {
  const client = new Redis(url)
  t.teardown(() => client.disconnect())
  await client.call('CLUSTER', 'ADDSLOTSRANGE', 0, 16383)
  await until(async () => String(await client.call('CLUSTER', 'INFO')).includes('cluster_state:ok'))
}

const appendOnly = ['--appendonly', 'yes']
/** Faults of Redis, each with the lines that are not ok. */
const servers: Array<[kind: string, args: string[], bad: RegExp[], acl?: string]> = [
  ['no memory left', ['--appendonly', 'yes', '--maxmemory', '1'],
    [
      /^problem +Redis writes: refused \(OOM .*: its memory is full, raise maxmemory/,
      /^problem +Redis memory: 0\.0 GB of 0\.0 GB free/
    ]],
  [
    'an eviction policy', ['--appendonly', 'yes', '--maxmemory-policy', 'allkeys-lru'],
    [/^problem +Redis eviction: maxmemory-policy is allkeys-lru/]
  ],
  ['nothing on disk', [], [/^warning +Redis persistence: none: a restart forgets/]],
  ['snapshots', ['--save', '60 1'], [/^warning +Redis persistence: snapshots only/]],
  [
    'a CONFIG that is not shown', ['--rename-command', 'CONFIG', ''],
    [/^warning +Redis persistence: no append-only file: make sure that the service/]
  ],
  [
    'a user without rights', appendOnly, [/^problem +Redis rights: the user may not run HSET, HDEL/],
    '~* +@all -hset -hdel'
  ],
  ['a user without scripts', appendOnly, [/^problem +Redis rights: no script runs \(NOPERM/], '~* +@all -eval'],
  ['a user for other keys', appendOnly,
    [
      /^problem +Redis rights: no script runs \(NOPERM/,
      /^problem +Redis writes: refused \(NOPERM.*: see the commands and keys/
    ], '~other:* +@all'],
  ['a user without INFO', appendOnly, [/^warning +Redis server: the user may not run INFO/], '~* +@all -info'],
  [
    'one node of a Cluster', ['--appendonly', 'yes', '--cluster-enabled', 'yes'],
    [/^warning +Redis topology: REDIS_URL names a single node of a Cluster/]
  ]
]

t.test('the report names each fault of Redis', async (t) => {
  const { url } = await databaseOf(t)
  for (const [kind, args, expected, acl] of servers) {
    await t.test(kind, async (t) => {
      const isCluster = args.includes('--cluster-enabled')
      const redis = await redisOf(
        t, ...args,
        ...isCluster ? ['--cluster-port', String(await freePort()), '--cluster-announce-ip', '127.0.0.1'] : []
      )
      if (isCluster) await ownAllSlots(t, redis.url)
      if (acl) await restrict(t, redis.url, acl)
      const { code, bad } = await report(productionEnv(url, redis.url))
      t.match(bad, expected)
      t.equal(bad.length, expected.length, bad.join('\n'))
      t.equal(code, Number(expected.some((line) => /problem/.test(String(line)))))
    })
  }

  await t.test('a replica', async (t) => {
    const master = await redisOf(t)
    const replica = await redisOf(t, '--appendonly', 'yes', '--replicaof', `127.0.0.1 ${master.port}`)
    const { bad } = await report(productionEnv(url, replica.url))
    t.match(bad, [/^problem +Redis writes: refused \(READONLY.*: this is a replica, point REDIS_URL to the master/])
  })

  await t.test('a snapshot that fails', async (t) => {
    const redis = await redisOf(t, '--save', '3600 1', '--enable-protected-configs', 'yes')
    const client = new Redis(redis.url)
    t.teardown(() => client.disconnect())
    await client.set('a', 1)
    await client.config('SET', 'dir', '/proc')
    await client.call('BGSAVE').catch(() => undefined)
    while (!/rdb_last_bgsave_status:err/.test(await client.info())) await new Promise(setImmediate)
    const { bad } = await report(productionEnv(url, redis.url))
    t.match(
      bad,
      [
        /^problem +Redis writes: refused \(MISCONF.*: it cannot save its data/,
        /^problem +Redis persistence: the last write to disk failed/
      ]
    )
  })

  await t.test('the topology of a Cluster and of Sentinels', async (t) => {
    const [cluster, sentinel] = [await startCluster(t), await startSentinel(t)]
    const [ofCluster, ofSentinel] = [
      await report(productionEnv(url, cluster.url)), await report(productionEnv(url, sentinel.url))
    ]
    t.ok(ofCluster.lines.includes('ok       Redis topology: Cluster of 3 masters'))
    t.equal(ofCluster.lines.filter((line) => /^ok +Redis [\w.]+:\d+ memory: /.test(line)).length, 3)
    t.ok(ofSentinel.lines.includes('ok       Redis topology: a master that Sentinels name'))
  })
})

t.test('states that no test server can have are judged by what a server reports', async (t) => {
  t.match(checkTls({ encrypted: true, authorized: true }), { level: 'ok' })
  t.match(
    checkTls({ encrypted: true, authorized: false }),
    { level: 'warning', text: /not verified: use sslmode=verify-full/ }
  )
  t.match(checkTls({ remoteAddress: '10.0.0.7' }), { level: 'warning', text: /clear text/ })
  t.match(checkTls({}), { level: 'ok' }, 'a Unix socket')
  t.match(checkVersion('13.9', 130_009), { level: 'warning', text: /13\.9 is no longer supported/ })
  t.match(
    checkRedisVersion('Redis', 'redis_version:5.0.7\r\n'), { level: 'warning', text: /5\.0\.7 is no longer supported/ }
  )
  t.match(
    checkMemory('Redis', 'used_memory:85\r\nmaxmemory:100\r\n'), { level: 'warning', text: /raise maxmemory before/ }
  )
  t.match(unreachable(new Error('READONLY You cannot write')), { subject: 'Redis writes', text: /this is a replica/ })
  const shown = { config: async () => ['save', ''] }
  t.match(await checkPersistence('Redis', 'aof_last_write_status:err\r\n', shown), { level: 'problem' })
  t.equal(errorText(Object.assign(new AggregateError([]), { code: 'ECONNREFUSED' })), 'ECONNREFUSED')
})
