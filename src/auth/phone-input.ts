import { Problem, type ProblemCode } from '../http/problems.js'
import { markets, type Language, type MarketId } from '../phone/markets.js'
import { extraMarket, type ExtraPrefix } from '../phone/extra-prefixes.js'
import { parsePhone, type PhoneFault } from '../phone/phone-number.js'
import { SmsOptedOut, SmsUnsupported } from '../messages/index.js'

/** The phone number as the client wrote it, and the market in the body. */
interface PhoneRequest {
  phone: string
  market: MarketId | undefined
  clientIp: string
}

export interface SendRequest extends PhoneRequest {
  /** The language of the body, else of Accept-Language. */
  language: Language | undefined
  traceparent: string | undefined
}

export interface Guess extends PhoneRequest {
  /** Six digits. */
  code: string
}

const example = 'like +996 555 123 456'
const prefixes = Object.values(markets).map(({ prefix }) => prefix).join(' or ')
const faults: Record<PhoneFault, [code: 'invalid_request' | 'unsupported_phone', message: string]> = {
  malformed: ['invalid_request', `must be a phone number with its country code, ${example}`],
  no_country_code: ['invalid_request', `has no country code: start with + and the country code, ${example}`],
  wrong_length: ['invalid_request', 'has too many or too few digits for its country: check the digits'],
  unknown_range: ['invalid_request', 'is in an unknown range of numbers: check the digits'],
  unknown_country: ['invalid_request', `is not a number of any market: use one that starts with ${prefixes}`],
  no_market: ['unsupported_phone', `is not a number of any market: use one that starts with ${prefixes}`],
  short_number: ['unsupported_phone', `is a short number: use a mobile number with its country code, ${example}`],
  no_messages: ['unsupported_phone', 'cannot receive messages: use a mobile number']
}

/** A problem of the member `phone`; `message` says what is wrong with it. */
const phoneProblem = (code: ProblemCode, message: string, cause?: unknown): Problem =>
  new Problem(code, { errors: [{ field: '/phone', message }], cause })

/** The numbers of TEST_PHONES in E.164, each with its market and its fixed code. */
export type TestPhones = ReadonlyMap<string, { market: MarketId, code: string }>

interface AcceptedPhone {
  /** E.164. */
  phone: string
  market: MarketId
  testCode?: string | undefined
}

export interface PhoneOptions { testPhones: TestPhones, extraPrefixes: readonly ExtraPrefix[] }

/**
 * Returns a function that parses the phone of a request. `market` is the market in the body, `testCode` the fixed code
 * of a test number. The function throws invalid_request and unsupported_phone.
 */
export function phoneReader ({ testPhones, extraPrefixes }: PhoneOptions) {
  const exempt = (phone: string) => testPhones.get(phone)?.market ?? extraMarket(extraPrefixes, phone)

  return (input: string, market: MarketId | undefined): AcceptedPhone => {
    const parsed = parsePhone(input, { market, exempt })
    if (!parsed.ok) throw phoneProblem(...faults[parsed.fault])
    const { phone } = parsed
    return { phone, market: parsed.market, testCode: testPhones.get(phone)?.code }
  }
}

/** The problem for the client when the provider threw `cause`. */
export function sendFailure (cause: unknown) {
  if (cause instanceof SmsOptedOut) return phoneProblem('opted_out', 'has opted out of messages', cause)
  if (cause instanceof SmsUnsupported) {
    return phoneProblem('unsupported_phone', 'cannot receive messages: use another mobile number', cause)
  }
  return new Problem('sms_failed', { cause })
}
