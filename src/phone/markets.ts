import { parsePhoneNumberFromString, type CountryCode } from 'libphonenumber-js/max'

interface Market {
  country: string
  /** ISO 3166-1 alpha-2. */
  countryCode: CountryCode
  prefix: string
  language: Language
  currency: string
  /** ISO 4217. */
  currencyCode: string
  /** How to display a number: every X is a digit. */
  phoneFormat: string
}

export const languages = ['ru', 'en', 'ky'] as const
export type Language = typeof languages[number]

/** All markets: a new market is a new entry here. */
export const markets = {
  kg: {
    country: 'Kyrgyzstan',
    countryCode: 'KG',
    prefix: '+996',
    language: 'ru',
    currency: 'сом',
    currencyCode: 'KGS',
    phoneFormat: '+996 XXX XXX XXX'
  },
  us: {
    country: 'United States',
    countryCode: 'US',
    prefix: '+1',
    language: 'en',
    currency: '$',
    currencyCode: 'USD',
    phoneFormat: '+1 (XXX) XXX-XXXX'
  }
} as const satisfies Record<string, Market>

export type MarketId = keyof typeof markets
export const marketIds = Object.keys(markets) as MarketId[]
export const defaultMarket: MarketId = 'kg'

export const isMarket = (value: unknown): value is MarketId =>
  typeof value === 'string' && Object.hasOwn(markets, value)

export const isLanguage = (value: unknown): value is Language =>
  (languages as readonly unknown[]).includes(value)

/** The market of a stored number: its column if valid, otherwise by the number, otherwise the default market. */
export function marketOf (stored: string | null, phone: string): MarketId {
  if (isMarket(stored)) return stored
  const country = parsePhoneNumberFromString(phone)?.country
  // A test number, or one of an extra range, may have no country in the numbering plan.
  const ofNumber = marketIds.find((id) =>
    country ? markets[id].countryCode === country : phone.startsWith(markets[id].prefix))
  return ofNumber ?? defaultMarket
}

/** An E.164 number in the format of its market, like `+1 (312) 805-9851`. Unchanged if it fits no format. */
export function formatPhone (phone: string): string {
  for (const { prefix, phoneFormat } of Object.values(markets)) {
    const national = phone.slice(prefix.length)
    const slots = phoneFormat.slice(prefix.length).replace(/[^X]/g, '')
    if (phone.startsWith(prefix) && national.length === slots.length) {
      let next = 0
      return prefix + phoneFormat.slice(prefix.length).replace(/X/g, () => national.charAt(next++))
    }
  }
  return phone
}

/** An E.164 number masked for logs: the prefix of its market and the last two digits, like `+1•••••••51`. */
export function maskPhone (phone: string): string {
  const prefix = Object.values(markets).find((market) => phone.startsWith(market.prefix))?.prefix ?? ''
  return `${prefix}•••••••${phone.slice(-2)}`
}
