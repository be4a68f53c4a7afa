import { isMarket, markets, type MarketId } from './markets.js'

/** A range of numbers that the numbering plan lacks: the beginning of its numbers in E.164. */
export interface ExtraPrefix { market: MarketId, prefix: string }

/** How many characters a number of a market has in E.164. */
const lengthOf = (market: MarketId) => markets[market].prefix.length + markets[market].phoneFormat.replace(/[^X]/g, '').length

/** The market of a number in one of the extra ranges, where only the length counts; undefined outside of them. */
export function extraMarket (extraPrefixes: readonly ExtraPrefix[], phone: string): MarketId | undefined {
  return extraPrefixes.find(({ market, prefix }) => phone.startsWith(prefix) && phone.length === lengthOf(market))?.market
}

/** Reads the entries of PHONE_EXTRA_PREFIXES, like `kg:+996601`. Issues go to `problems`, by the place of the entry. */
export function readExtraPrefixes (entries: string[], problems: string[]): ExtraPrefix[] {
  return entries.flatMap((entry, index) => {
    const [, market, prefix = ''] = /^(\w+):(\+[0-9]+)$/.exec(entry) ?? []
    // A whole market as a range would pass its premium and toll-free numbers.
    if (isMarket(market) && prefix.startsWith(markets[market].prefix) && prefix.length > markets[market].prefix.length &&
      prefix.length <= lengthOf(market)) return [{ market, prefix }]
    problems.push(`PHONE_EXTRA_PREFIXES entry ${index + 1} must be a market and the beginning of its numbers, like kg:+996601`)
    return []
  })
}
