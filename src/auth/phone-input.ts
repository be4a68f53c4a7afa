import { problem, type Problem, type ProblemCode } from '../http/problems.js'
import { markets, type Language, type MarketId } from '../phone/markets.js'
import { extraMarket, type ExtraPrefix } from '../phone/extra-prefixes.js'
import { parsePhone, type PhoneFault } from '../phone/phone-number.js'
import { SmsOptedOut, SmsUnsupported } from '../messages/index.js'

/** A phone as the client wrote it, and the market that it named. */
interface PhoneRequest {
  phone: string
  market: MarketId | undefined
  clientIp: string
}

export interface SendRequest extends PhoneRequest {
  /** What the request asks for. */
  language: Language | undefined
  traceparent: string | undefined
}

export interface Guess extends PhoneRequest {
  /** Six digits. */
  code: string
}

const example = 'like +996 555 123 456'
const prefixes = Object.values(markets).map(({ prefix }) => prefix).join(', ')
const faults: Record<PhoneFault, [code: 'invalid_request' | 'unsupported_phone', message: string]> = {
  malformed: ['invalid_request', `must be a phone number with its country code, ${example}`],
  no_country_code: ['invalid_request', `has no country code: begin with + and the country code, ${example}`],
  wrong_length: ['invalid_request', 'does not have as many digits as the numbers of its country'],
  unknown_range: ['invalid_request', 'belongs to a range of numbers that is not known: check its digits'],
  unknown_country: ['invalid_request', `is no number of any market: those begin with ${prefixes}`],
  no_market: ['unsupported_phone', `is no number of any market: those begin with ${prefixes}`],
  short_number: ['unsupported_phone', `is a short number: use a mobile number with its country code, ${example}`],
  no_messages: ['unsupported_phone', 'is of a kind that receives no messages: use a mobile number']
}

/** A problem of the phone of a request, with what is wrong with it. */
const phoneProblem = (code: ProblemCode, message: string, cause?: unknown): Problem =>
  problem(code, { errors: [{ field: '/phone', message }], cause })

/** The numbers of TEST_PHONES in E.164: their market, and the code that always works. */
export type TestPhones = ReadonlyMap<string, { market: MarketId, code: string }>

export interface PhoneOptions { testPhones: TestPhones, extraPrefixes: readonly ExtraPrefix[] }

/**
 * Returns the function that reads the phone of a request; `market` is the one that the body names, and `testCode` the fixed code
 * of a test number. That function throws invalid_request and unsupported_phone.
 */
export function phoneReader ({ testPhones, extraPrefixes }: PhoneOptions) {
  const exempt = (phone: string) => testPhones.get(phone)?.market ?? extraMarket(extraPrefixes, phone)

  return (input: string, market: MarketId | undefined): { phone: string, market: MarketId, testCode?: string | undefined } => {
    const parsed = parsePhone(input, { market, exempt })
    if (!parsed.ok) throw phoneProblem(...faults[parsed.fault])
    const { phone } = parsed
    return { phone, market: parsed.market, testCode: testPhones.get(phone)?.code }
  }
}

/** The problem of a send whose provider threw `cause`. */
export function sendFailure (cause: unknown) {
  if (cause instanceof SmsOptedOut) return phoneProblem('opted_out', 'has opted out of messages', cause)
  if (cause instanceof SmsUnsupported) return phoneProblem('unsupported_phone', 'receives no messages: use another mobile number', cause)
  return problem('sms_failed', { cause })
}
