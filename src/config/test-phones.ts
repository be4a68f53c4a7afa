import type { TestPhones } from '../auth/phone-input.js'
import { marketIds, markets, type MarketId } from '../phone/markets.js'
import { canonicalPhone } from '../phone/phone-number.js'
import type { EnvReader } from './env.js'

/** ITU-T E.164: 15 digits at most; fewer than seven are a short number. */
const isPhone = (phone: string | undefined): phone is string => /^\+\d{7,15}$/.test(phone ?? '')

/** Whether a code is easy to guess: one digit repeated, or digits that run up or down, also past 9 or 0. */
function isObvious (code: string): boolean {
  const steps = new Set(Array.from(code.slice(1), (digit, index) => (Number(digit) - Number(code[index]) + 10) % 10))
  return steps.size === 1 && [0, 1, 9].some((step) => steps.has(step))
}

/**
 * Reads the entries of TEST_PHONES, like `+13125550100=480513`. A number need not be assigned, only begin with the
 * prefix of a market. Production refuses obvious codes. An issue has the position of its entry, but neither number nor
 * code.
 */
export function readTestPhones (env: EnvReader, isProduction: boolean): TestPhones {
  const phones = new Map<string, { market: MarketId, code: string }>()
  for (const [index, entry] of env.list('TEST_PHONES').entries()) {
    const wrong = (what: string) => env.issues.push(`TEST_PHONES entry ${index + 1} ${what}`)
    const [, number = '', code = ''] = /^([^=]+)=([0-9]{6})$/.exec(entry) ?? []
    const phone = canonicalPhone(number)
    const market = marketIds.find((id) => phone?.startsWith(markets[id].prefix))
    if (!isPhone(phone)) wrong('must be a number with its country code, an equals sign and six digits')
    else if (!market) wrong('has a number without the prefix of a market')
    else if (phones.has(phone)) wrong('has the number of an entry before it')
    else if (isProduction && isObvious(code)) wrong('has a code of one repeated or running digit')
    else phones.set(phone, { market, code })
  }
  return phones
}
