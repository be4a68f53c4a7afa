import { setTimeout as sleep } from 'node:timers/promises'
import type { SmsMessage } from '../../../src/messages/index.js'
import { client, newPhone, type Answer } from '../../helpers/service.js'

/** The groups of routes: how many of the 32 clients ask for each, and what they are answered when nothing is wrong. */
export const groups = {
  'verify-token': { clients: 8, normal: '200' },
  'GET me': { clients: 3, normal: '200' },
  'PATCH me': { clients: 3, normal: '200' },
  addresses: { clients: 4, normal: '200' },
  send: { clients: 4, normal: '200' },
  verify: { clients: 3, normal: '200' },
  logout: { clients: 2, normal: '200' },
  deletion: { clients: 2, normal: '204' },
  live: { clients: 1, normal: '200' },
  ready: { clients: 2, normal: '200 ok' }
}
export type Group = keyof typeof groups
export const groupNames = Object.keys(groups) as Group[]

/** Times are in milliseconds since the process began. */
export interface Answered { group: Group, status: string, start: number, end: number }

/** So many codes and tokens are kept for the moment when no new ones can be had. */
const reserve = 20
/** A client asks again so long after its answer: what is measured is the service, not how busy the machine can be kept. */
const pauseMs = 100

/** What stands for an answer: its status, and what else the contract says of it. */
function outcome (group: Group, { status, headers, body }: Answer) {
  if (group === 'ready') return `${status} ${body.status}`
  return status === 503 && (headers.get('retry-after') !== '2' || body.code !== 'unavailable') ? '503 without Retry-After' : String(status)
}

/** 32 clients that ask again and again until they are stopped. */
export async function startLoad (url: string, sms: SmsMessage[]) {
  const { request, send, verify, codeOf, login } = client(url, sms)
  const signedIn: Array<{ token: string, address: number }> = []
  while (signedIn.length < 8) {
    const { token } = await login(newPhone())
    const { body } = await request('POST', '/api/v1/profile/addresses', { token, body: { title: 'Home', full_address: 'Chuy 1' } })
    signedIn.push({ token, address: body.address.id })
  }

  const answers: Answered[] = []
  const streaks = new Map<Group, number>()
  const answered = new Map<Group, number>()
  const codes: Array<{ phone: string, code: string }> = []
  const tokens: string[] = []
  const refusedSends = new Set<string>()
  let isStruck = false
  let awaySince = Infinity
  const stopping = new AbortController()
  /** Whether what a request wanted to use up is still good after a 503; it may have begun before the failure was complete. */
  let isKept = (_group: Group, _isAfter: boolean) => true

  const take = <T>(stock: T[]) => stock.length > (isStruck ? 0 : reserve) ? stock.shift() : undefined

  /** Uses up one of a stock; puts it back where a 503 says that nothing happened. */
  async function useUp<T> (group: Group, stock: T[], call: (item: T) => Promise<Answer>): Promise<Answer | undefined> {
    const item = take(stock)
    if (item === undefined) return undefined
    const start = performance.now()
    const answer = await call(item)
    if (answer.status === 503 && isKept(group, start > awaySince)) stock.unshift(item)
    return answer
  }

  const calls: Record<Group, (n: number) => Promise<Answer | undefined>> = {
    'verify-token': (n) => request('GET', '/api/v1/auth/verify-token', { token: signedIn[n % 8]?.token }),
    'GET me': (n) => request('GET', '/api/v1/users/me', { token: signedIn[n % 8]?.token }),
    'PATCH me': (n) => request('PATCH', '/api/v1/users/me', { token: signedIn[n % 8]?.token, body: { full_name: `Name ${n}` } }),
    addresses: (n) => n % 2
      ? request('GET', '/api/v1/profile/addresses', { token: signedIn[n % 8]?.token })
      : request('PATCH', `/api/v1/profile/addresses/${signedIn[n % 8]?.address}`, { token: signedIn[n % 8]?.token, body: { city: `City ${n}` } }),
    send: async () => {
      const phone = newPhone()
      const answer = await send(phone)
      if (answer.status === 200) codes.push({ phone, code: codeOf(phone) })
      if (answer.status === 503) refusedSends.add(phone)
      return answer
    },
    verify: () => useUp('verify', codes, async ({ phone, code }) => {
      const answer = await verify(phone, code)
      if (answer.status === 200) tokens.push(answer.body.access_token)
      return answer
    }),
    logout: () => useUp('logout', tokens, (token) => request('POST', '/api/v1/auth/logout', { token })),
    deletion: () => useUp('deletion', tokens, (token) => request('DELETE', '/api/v1/users/me', { token })),
    live: () => request('GET', '/health/live'),
    ready: () => request('GET', '/health/ready')
  }

  let requests = 0
  /** One request of a group; of verify-token where there is nothing to use up. */
  async function ask (group: Group): Promise<void> {
    const start = performance.now()
    const answer = await calls[group](requests++).then((answer) => answer && outcome(group, answer), () => 'no answer')
    if (answer === undefined) return ask('verify-token')
    answers.push({ group, status: answer, start, end: performance.now() })
    streaks.set(group, answer === groups[group].normal ? (streaks.get(group) ?? 0) + 1 : 0)
    if (start > awaySince) answered.set(group, (answered.get(group) ?? 0) + 1)
  }
  const clients = Promise.all(groupNames.flatMap((group) => Array.from({ length: groups[group].clients }, async () => {
    while (!stopping.signal.aborted) {
      await ask(group)
      await sleep(pauseMs)
    }
  })))

  return {
    /** The answers since the last call. */
    answers: () => answers.splice(0),
    /** Whether each client of each group has had two answers to requests that began after the failure. */
    isAnswered: () => groupNames.every((group) => (answered.get(group) ?? 0) >= 2 * groups[group].clients),
    /** Whether everything is answered as it should be, and the stocks are full. */
    isSteady: () => codes.length >= reserve && tokens.length >= reserve &&
      groupNames.every((group) => (streaks.get(group) ?? 0) >= 3 * groups[group].clients),
    /** Numbers to which a send was answered 503. */
    refusedSends,
    /** A failure begins: from now on the stocks may run out. */
    strike (kept: typeof isKept) {
      isStruck = true
      isKept = kept
    },
    /** The failure is complete. */
    struck () {
      answered.clear()
      awaySince = performance.now()
      return awaySince
    },
    mended () {
      isStruck = false
      awaySince = Infinity
      streaks.clear()
      return performance.now()
    },
    async stop () {
      stopping.abort()
      await clients
    }
  }
}
