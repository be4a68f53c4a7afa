import { parsePhoneNumberFromString, type NumberType, type PhoneNumber } from 'libphonenumber-js/max'
import { defaultMarket, marketIds, markets, type MarketId } from './markets.js'

/** Separators that people type, and invisible characters of copied text: Unicode Zs, Pd, Cf (CONTRACT, section 4). */
const separators = /[\p{Zs}\p{Pd}\p{Cf}\t.()]/gu

/** Removes separators and invisible characters from a phone number or code. */
export const withoutSeparators = (input: string) => input.replace(separators, '')

/** Why a text is not a number that can sign in. */
export type PhoneFault =
  /** It contains other characters than digits and separators. */
  | 'malformed'
  | 'no_country_code'
  /** The country code belongs to a market, but no number of that market has this length or range. */
  | 'wrong_length' | 'unknown_range'
  /** The numbering plan does not have the number, and no market has the country code. */
  | 'unknown_country'
  /** The number exists, but belongs to no market, is too short for a subscriber, or cannot receive messages. */
  | 'no_market' | 'short_number' | 'no_messages'

type ParsedPhone = { ok: true, phone: string, market: MarketId } | { ok: false, fault: PhoneFault }

export interface ParseOptions {
  /** The market in the request. A country code takes precedence. */
  market?: MarketId | undefined
  /** The market of a number that is accepted without the numbering plan: a test number or one of an extra range. */
  exempt?: (phone: string) => MarketId | undefined
}

const messageTypes: ReadonlyArray<NumberType | undefined> = ['MOBILE', 'FIXED_LINE_OR_MOBILE']

/** Most digits of a short code. No subscriber number of ITU-T E.164 is as short. */
const longestShortNumber = 6

const marketOfCountry = (country: string | undefined) => marketIds.find((id) => markets[id].countryCode === country)
const hasMarketPrefix = (phone: string) => marketIds.some((id) => phone.startsWith(markets[id].prefix))

/** The digits of a number, and whether it starts with `+` or `00`. Undefined if the text is not a number. */
function digitsOf (input: string): { digits: string, isInternational: boolean } | undefined {
  const [, start, digits] = /^(\+|00)?([0-9]+)$/.exec(withoutSeparators(input)) ?? []
  return digits === undefined ? undefined : { digits, isInternational: start !== undefined }
}

const international = (digits: string) => parsePhoneNumberFromString(`+${digits}`, { extract: false })

/**
 * Parses digits as a national number of a market, with or without its trunk prefix. Undefined for numbers from abroad.
 */
function national (digits: string, market: MarketId): PhoneNumber | undefined {
  const { countryCode, prefix } = markets[market]
  const number = parsePhoneNumberFromString(digits, { defaultCountry: countryCode, extract: false })
  return number?.number.startsWith(prefix) ? number : undefined
}

/** The numbers that digits may mean, the most likely first. */
function candidates (digits: string, isInternational: boolean, named: MarketId | undefined): PhoneNumber[] {
  const market = named ?? (digits.startsWith('0') ? defaultMarket : undefined)
  return [international(digits), !isInternational && market && national(digits, market)]
    .filter((number) => typeof number === 'object')
}

/** A number with its country code in E.164 (ITU-T E.164), assigned or not. Undefined if the text is not a number. */
export function canonicalPhone (input: string): string | undefined {
  const parsed = digitsOf(input)
  return parsed && (international(parsed.digits)?.number ?? `+${parsed.digits}`)
}

/**
 * Parses a phone number as people type it (CONTRACT, section 4). Returns the number in E.164 with its market, or the
 * fault.
 */
export function parsePhone (input: string, options: ParseOptions = {}): ParsedPhone {
  const { market: named, exempt = () => undefined } = options
  const parsed = digitsOf(input)
  if (!parsed) return { ok: false, fault: 'malformed' }
  const { digits, isInternational } = parsed
  if (digits.length <= longestShortNumber) return { ok: false, fault: 'short_number' }

  const numbers = candidates(digits, isInternational, named)
  for (const number of numbers) {
    const phone = number.number
    const exempted = exempt(phone)
    if (exempted) return { ok: true, phone, market: exempted }
    if (!number.isValid()) continue
    const market = marketOfCountry(number.country)
    if (!market) return { ok: false, fault: 'no_market' }
    return messageTypes.includes(number.getType()) ? { ok: true, phone, market } : { ok: false, fault: 'no_messages' }
  }
  const ofMarket = numbers.find((number) => hasMarketPrefix(number.number))
  if (ofMarket) return { ok: false, fault: ofMarket.isPossible() ? 'unknown_range' : 'wrong_length' }
  return { ok: false, fault: isInternational ? 'unknown_country' : 'no_country_code' }
}
