import t from 'tap'
import { smsWebhook, startService } from '../../helpers/server-process.js'
import { client, newPhone, productionEnv, testDatabase, testRedis, type TestResponse } from '../../helpers/service.js'

/*
 * npm run test:faults: processes of the service are killed while they send and verify codes. Several lanes run in
 * parallel, because the start of a process takes longer than its life.
 */
const rounds = 200
const lanes = 4
/** Sends in a round, and verifications of codes from earlier rounds. */
const perRound = 6

interface Code { phone: string, code: string }

t.test(`${rounds} processes killed during sends and verifications leave nothing half done`, async (t) => {
  const database = await testDatabase(t)
  const { url: redisUrl, redis } = await testRedis(t)
  const { url: smsUrl, sms } = await smsWebhook(t)
  // Without the options of the test runner a process starts faster.
  const env = { ...productionEnv(database.url, redisUrl), LOG_LEVEL: 'info', SMS_WEBHOOK_URL: smsUrl, NODE_OPTIONS: '' }

  const sent: Code[] = []
  const used: Code[] = []
  const unanswered: Code[] = []
  let interrupted = 0

  /** Kills a process as soon as `responsesBefore` of its requests have responses. */
  async function round (responsesBefore: number) {
    const phones = Array.from({ length: perRound }, () => newPhone())
    // Half of the numbers have a row of an earlier system, which a login completes.
    await database.sql(
      'INSERT INTO users (phone_number, is_active) SELECT unnest($1::text[]), FALSE', [phones.slice(perRound / 2)]
    )
    const service = await startService(t, env, '../../dist/server')
    const { send, verify, codeOf } = client(service.url, sms)
    let answered = 0
    const watch = (request: Promise<TestResponse>) => request.then((response) => {
      if (++answered === responsesBefore) service.kill('SIGKILL')
      return response
    }, () => undefined)
    const tried = sent.splice(0, perRound)
    const [verified] = await Promise.all([
      Promise.all(tried.map(({ phone, code }) => watch(verify(phone, code)))),
      Promise.all(phones.map((phone) => watch(send(phone))))
    ])
    await service.closed
    if (answered < tried.length + phones.length) interrupted++
    tried.forEach((code, i) => (verified[i]?.status === 200 ? used : unanswered).push(code))
    for (const phone of phones) {
      if (sms.some(({ to }) => to === phone)) sent.push({ phone, code: codeOf(phone) })
    }
  }

  await Promise.all(Array.from({ length: lanes }, async (_, lane) => {
    for (let n = lane; n < rounds; n += lanes) await round(1 + n % perRound)
  }))
  t.ok(interrupted > rounds / 2, `${interrupted} of ${rounds} had requests in flight`)
  t.ok(
    used.length > rounds && unanswered.length > 0,
    `${used.length} codes gave a token, ${unanswered.length} got no response`
  )

  const keys = await redis.keys('*')
  const lives = await Promise.all(keys.map(async (key) => ({ key, seconds: await redis.ttl(key) })))
  t.ok(keys.length > rounds)
  t.strictSame(lives.filter(({ seconds }) => seconds === -1), [], 'every key has a TTL')

  t.strictSame(await database.sql('SELECT phone_number FROM users GROUP BY phone_number HAVING count(*) > 1'), [])
  t.strictSame(await database.sql(`SELECT * FROM users WHERE is_active IS DISTINCT FROM FALSE
    AND NOT (is_active AND is_verified AND last_login IS NOT NULL AND created_at IS NOT NULL
    AND updated_at >= last_login AND market IS NOT NULL AND language IS NOT NULL AND country IS NOT NULL)`),
  [], 'no row is half written')

  const active = await database.sql('SELECT phone_number FROM users WHERE is_active')
  const signedIn = new Set(active.map(({ phone_number: phone }) => phone as string))
  t.strictSame(used.filter(({ phone }) => !signedIn.has(phone)), [], 'every user with a token is signed in')
  const service = await startService(t, env, '../../dist/server')
  const { verify } = client(service.url, sms)
  const again = async (codes: Code[]) => {
    const works: Code[] = []
    for (const code of codes) if ((await verify(code.phone, code.code)).status !== 400) works.push(code)
    return works
  }
  t.strictSame(await again(used), [], 'no code that gave a token works again')
  t.strictSame(await again(unanswered.filter(({ phone }) => signedIn.has(phone))), [],
    'no code whose login was written without a response works again')
  for (const { phone, code } of sent) {
    const { status } = await verify(phone, code)
    if (status !== 200) t.fail(`an unused code gets the response ${status}`)
  }
  t.equal(await service.stop(), 0)
})
