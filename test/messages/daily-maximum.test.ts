import t from 'tap'
import { SmsRefused } from '../../src/messages/index.js'
import { testService, type Service } from '../helpers/service.js'

const numbers = (count: number) => Array.from({ length: count }, (_, n) => `+9965551200${String(n).padStart(2, '0')}`)
const events = (service: Service, wanted: string) =>
  service.log.map((line) => JSON.parse(line)).filter(({ event }) => event === wanted)

t.test('parallel sends, also to known numbers, do not exceed SMS_MARKET_DAILY_MAX and warn once at 80 %', async (t) => {
  let now = Date.now()
  const service = await testService(t,
    { env: { SMS_MARKET_DAILY_MAX: '10', SMS_GUARD: 'off' }, overrides: { clock: () => now } })
  const [known] = numbers(1) as [string]
  await service.sql('INSERT INTO users (phone_number, is_verified, last_login) VALUES ($1, TRUE, now())', [known])

  const sends = await Promise.all(numbers(40).map((phone) => service.send(phone)))

  t.equal(sends.filter(({ status }) => status === 200).length, 10)
  for (const { body } of sends.filter(({ status }) => status !== 200)) {
    t.match(body, { code: 'too_many_sends', retry_after: 86_400 })
  }
  t.match(events(service, 'daily_max_near'), [{ level: 40, market: 'kg', max: 10 }])
  t.equal(events(service, 'daily_max_near').length, 1)
  t.match(events(service, 'guard_tripped')[0], { level: 40, scope: 'daily', market: 'kg', mode: 'enforce' })
  t.equal(service.sms.length, 10)
  t.equal((await service.send('+13128059851')).status, 200, 'another market has its own maximum')
  for (const key of await service.redis.keys('phone-auth:daily:*')) t.ok(await service.redis.pttl(key) > 0)

  now += 86_400_000
  await service.redis.del(await service.redis.keys('phone-auth:code:*'))
  t.equal((await service.send(known)).status, 200, 'a new day')
})

t.test('a message that the provider or the pumping guard refuses does not count in its market', async (t) => {
  let refuses = true
  const service = await testService(t, {
    env: { SMS_MARKET_DAILY_MAX: '2', SMS_GUARD_BLOCK_SENDS: '1' },
    overrides: { sms: async () => { if (refuses) throw new SmsRefused() } }
  })
  for (const phone of numbers(3)) t.equal((await service.send(phone)).body.code, 'sms_failed')
  refuses = false
  t.equal((await service.send('+996555120001')).status, 200)
  for (const phone of ['+996555120002', '+996555120003']) {
    t.equal((await service.send(phone)).body.code, 'too_many_sends')
  }
  t.equal((await service.send('+996700120001')).status, 200)
  t.equal((await service.send('+996777120001')).body.code, 'too_many_sends')
  t.strictSame(events(service, 'guard_tripped').map(({ scope }) => scope), ['block', 'block', 'daily'])
})

t.test('a send beyond the daily maximum has no cooldown and no count in the pumping guard', async (t) => {
  const service = await testService(t, { env: { SMS_MARKET_DAILY_MAX: '1', SMS_GUARD_BLOCK_SENDS: '2' } })
  t.equal((await service.send('+996555120001')).status, 200)
  const [day] = await service.redis.keys('phone-auth:daily:*') as [string]
  for (let tries = 0; tries < 3; tries++) t.equal((await service.send('+996555120002')).body.code, 'too_many_sends')
  await service.redis.set(day, 'not a hash')
  t.equal((await service.send('+996555120002')).status, 503)
  await service.redis.del(day)
  t.equal((await service.send('+996555120002')).status, 200)
})

t.test('sends to a test number do not count in their market', async (t) => {
  const service = await testService(t, { env: { SMS_MARKET_DAILY_MAX: '1', TEST_PHONES: '+996000000001=271828' } })
  for (let sends = 0; sends < 3; sends++) t.equal((await service.send('+996000000001')).status, 200)
  t.equal((await service.send('+996555120001')).status, 200)
})
