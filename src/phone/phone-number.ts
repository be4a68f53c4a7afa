import { parsePhoneNumberFromString, type NumberType, type PhoneNumber } from 'libphonenumber-js/max'
import { defaultMarket, marketIds, markets, type MarketId } from './markets.js'

/** What people write between digits, and what a copied text brings along unseen: Unicode Zs, Pd, Cf (CONTRACT, section 4). */
const separators = /[\p{Zs}\p{Pd}\p{Cf}\t.()]/gu

/** A phone number or code as it was typed or pasted, without the characters that do not count. */
export const withoutSeparators = (input: string) => input.replace(separators, '')

/** Why a text is no number that can sign in. */
export type PhoneFault =
  /** Holds something else than digits and separators. */
  | 'malformed'
  | 'no_country_code'
  /** Its country code is that of a market, its length or its range is not. */
  | 'wrong_length' | 'unknown_range'
  /** No number of the numbering plan, and of no market's country code. */
  | 'unknown_country'
  /** A real number, but of no market, too short for a subscriber, or of a kind that receives no messages. */
  | 'no_market' | 'short_number' | 'no_messages'

type ParsedPhone = { ok: true, phone: string, market: MarketId } | { ok: false, fault: PhoneFault }

export interface ParseOptions {
  /** The market that the client names; a country code counts more. */
  market?: MarketId | undefined
  /** The market of a number that is taken whatever the numbering plan says of it: test numbers, extra ranges. */
  exempt?: (phone: string) => MarketId | undefined
}

const messageTypes: ReadonlyArray<NumberType | undefined> = ['MOBILE', 'FIXED_LINE_OR_MOBILE']

/** ITU-T E.164 knows no subscriber number this short; what fits in it is a short code. */
const longestShortNumber = 6

const marketOfCountry = (country: string | undefined) => marketIds.find((id) => markets[id].countryCode === country)
const hasMarketPrefix = (phone: string) => marketIds.some((id) => phone.startsWith(markets[id].prefix))

/** The digits of a number, and whether a country code is announced by `+` or `00`; undefined for what is no number. */
function digitsOf (input: string): { digits: string, isInternational: boolean } | undefined {
  const [, announced, digits] = /^(\+|00)?([0-9]+)$/.exec(withoutSeparators(input)) ?? []
  return digits === undefined ? undefined : { digits, isInternational: announced !== undefined }
}

const international = (digits: string) => parsePhoneNumberFromString(`+${digits}`, { extract: false })

/** Digits as a number of a market, with or without its trunk prefix. What the library reads as a number from abroad is none. */
function national (digits: string, market: MarketId): PhoneNumber | undefined {
  const { countryCode, prefix } = markets[market]
  const number = parsePhoneNumberFromString(digits, { defaultCountry: countryCode, extract: false })
  return number?.number.startsWith(prefix) ? number : undefined
}

/** The numbers that digits may mean, the most likely first. */
function readings (digits: string, isInternational: boolean, named: MarketId | undefined): PhoneNumber[] {
  const market = named ?? (digits.startsWith('0') ? defaultMarket : undefined)
  return [international(digits), !isInternational && market && national(digits, market)].filter((number) => typeof number === 'object')
}

/** A number with its country code in E.164 (ITU-T E.164), whether it is assigned or not; undefined for what is no number. */
export function canonicalPhone (input: string): string | undefined {
  const typed = digitsOf(input)
  return typed && (international(typed.digits)?.number ?? `+${typed.digits}`)
}

/** Reads a phone number as people type it (CONTRACT, section 4). Returns it in E.164 with its market, or what is wrong. */
export function parsePhone (input: string, { market: named, exempt = () => undefined }: ParseOptions = {}): ParsedPhone {
  const typed = digitsOf(input)
  if (!typed) return { ok: false, fault: 'malformed' }
  const { digits, isInternational } = typed
  if (digits.length <= longestShortNumber) return { ok: false, fault: 'short_number' }

  const numbers = readings(digits, isInternational, named)
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
