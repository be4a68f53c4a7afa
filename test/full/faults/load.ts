import { setTimeout as sleep } from 'node:timers/promises'
import type { SmsMessage } from '../../../src/messages/index.js'
import { client, newPhone, type TestResponse } from '../../helpers/service.js'

/** The groups of routes: how many of the 32 clients use each, and the normal response. */
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

/** The outcome of a request. Times are in milliseconds since the process started. */
export interface Outcome { group: Group, status: string, start: number, end: number }

/** Codes and tokens in reserve for the time when the service issues no new ones. */
const reserve = 20
/** Pause of a client after a response, so that the load does not saturate the machine. */
const pauseMs = 100

/** A response as text: its status, and whether it breaks the contract. */
function outcome (group: Group, { status, headers, body }: TestResponse) {
  if (group === 'ready') return `${status} ${body.status}`
  const isUnavailable = headers.get('retry-after') === '2' && body.code === 'unavailable'
  return status === 503 && !isUnavailable ? '503 without Retry-After' : String(status)
}

/** Starts 32 clients that send requests until they are stopped. */
export async function startLoad (url: string, sms: SmsMessage[]) {
  const { request, send, verify, codeOf, login } = client(url, sms)
  const signedIn: Array<{ token: string, address: number }> = []
  while (signedIn.length < 8) {
    const { token } = await login(newPhone())
    const { body } = await request('POST', '/api/v1/profile/addresses', {
      token, body: { title: 'Home', full_address: 'Chuy 1' }
    })
    signedIn.push({ token, address: body.address.id })
  }

  const outcomes: Outcome[] = []
  const streaks = new Map<Group, number>()
  const answered = new Map<Group, number>()
  const codes: Array<{ phone: string, code: string }> = []
  const tokens: string[] = []
  const refusedSends = new Set<string>()
  let isStruck = false
  let failedSince = Infinity
  const stopping = new AbortController()
  /**
   * Whether a code or token is still unused after a 503; `isAfter` if the request began after the failure was complete.
   */
  let isKept = (_group: Group, _isAfter: boolean) => true

  const take = <T>(stock: T[]) => stock.length > (isStruck ? 0 : reserve) ? stock.shift() : undefined

  /** Uses an item of a stock, and puts the item back if a 503 says that nothing has changed. */
  async function useUp<T> (
    group: Group, stock: T[], call: (item: T) => Promise<TestResponse>
  ): Promise<TestResponse | undefined> {
    const item = take(stock)
    if (item === undefined) return undefined
    const start = performance.now()
    const response = await call(item)
    if (response.status === 503 && isKept(group, start > failedSince)) stock.unshift(item)
    return response
  }

  const calls: Record<Group, (n: number) => Promise<TestResponse | undefined>> = {
    'verify-token': (n) => request('GET', '/api/v1/auth/verify-token', { token: signedIn[n % 8]?.token }),
    'GET me': (n) => request('GET', '/api/v1/users/me', { token: signedIn[n % 8]?.token }),
    'PATCH me': (n) =>
      request('PATCH', '/api/v1/users/me', { token: signedIn[n % 8]?.token, body: { full_name: `Name ${n}` } }),
    addresses (n) {
      const { token, address } = signedIn[n % 8] ?? {}
      return n % 2
        ? request('GET', '/api/v1/profile/addresses', { token })
        : request('PATCH', `/api/v1/profile/addresses/${address}`, { token, body: { city: `City ${n}` } })
    },
    send: async () => {
      const phone = newPhone()
      const response = await send(phone)
      if (response.status === 200) codes.push({ phone, code: codeOf(phone) })
      if (response.status === 503) refusedSends.add(phone)
      return response
    },
    verify: () => useUp('verify', codes, async ({ phone, code }) => {
      const response = await verify(phone, code)
      if (response.status === 200) tokens.push(response.body.access_token)
      return response
    }),
    logout: () => useUp('logout', tokens, (token) => request('POST', '/api/v1/auth/logout', { token })),
    deletion: () => useUp('deletion', tokens, (token) => request('DELETE', '/api/v1/users/me', { token })),
    live: () => request('GET', '/health/live'),
    ready: () => request('GET', '/health/ready')
  }

  let requests = 0
  /** Sends a request of a group, or one to verify-token if the stock of the group is empty. */
  async function ask (group: Group): Promise<void> {
    const start = performance.now()
    const status = await calls[group](requests++)
      .then((response) => response && outcome(group, response), () => 'no response')
    if (status === undefined) return ask('verify-token')
    outcomes.push({ group, status, start, end: performance.now() })
    streaks.set(group, status === groups[group].normal ? (streaks.get(group) ?? 0) + 1 : 0)
    if (start > failedSince) answered.set(group, (answered.get(group) ?? 0) + 1)
  }
  const clients = Promise.all(groupNames.flatMap((group) => Array.from({ length: groups[group].clients }, async () => {
    while (!stopping.signal.aborted) {
      await ask(group)
      await sleep(pauseMs)
    }
  })))

  return {
    /** The outcomes since the last call. */
    outcomes: () => outcomes.splice(0),
    /** Whether each client of each group has had two responses to requests that began after the failure. */
    isAnswered: () => groupNames.every((group) => (answered.get(group) ?? 0) >= 2 * groups[group].clients),
    /** Whether all responses are normal, and the stocks are full. */
    isSteady: () => codes.length >= reserve && tokens.length >= reserve &&
      groupNames.every((group) => (streaks.get(group) ?? 0) >= 3 * groups[group].clients),
    /** Numbers whose send got the response 503. */
    refusedSends,
    /** Begins a failure: from now on the stocks may run out. */
    strike (kept: typeof isKept) {
      isStruck = true
      isKept = kept
    },
    /** Marks the failure as complete. */
    struck () {
      answered.clear()
      failedSince = performance.now()
      return failedSince
    },
    mended () {
      isStruck = false
      failedSince = Infinity
      streaks.clear()
      return performance.now()
    },
    async stop () {
      stopping.abort()
      await clients
    }
  }
}
