import { isMarket, markets, type MarketId } from './markets.js'

/** A range of numbers that the numbering plan lacks. `prefix` is the beginning of its numbers in E.164. */
export interface ExtraPrefix { market: MarketId, prefix: string }

/** The length of an E.164 number of a market, in characters. */
const lengthOf = (market: MarketId) =>
  markets[market].prefix.length + markets[market].phoneFormat.replace(/[^X]/g, '').length

/** The market of a number in an extra range, where only the length is checked. Undefined outside these ranges. */
export function extraMarket (extraPrefixes: readonly ExtraPrefix[], phone: string): MarketId | undefined {
  return extraPrefixes.find(({ market, prefix }) =>
    phone.startsWith(prefix) && phone.length === lengthOf(market))?.market
}

/** Parses the entries of PHONE_EXTRA_PREFIXES, like `kg:+996601`. Adds a line to `problems` for each wrong entry. */
export function readExtraPrefixes (entries: string[], problems: string[]): ExtraPrefix[] {
  return entries.flatMap((entry, index) => {
    const [, market, prefix = ''] = /^(\w+):(\+[0-9]+)$/.exec(entry) ?? []
    // The prefix of a market alone is refused: its range would accept premium and toll-free numbers.
    if (isMarket(market) && prefix.startsWith(markets[market].prefix) &&
      prefix.length > markets[market].prefix.length && prefix.length <= lengthOf(market)) return [{ market, prefix }]
    problems.push(
      `PHONE_EXTRA_PREFIXES entry ${index + 1} must be a market and the beginning of its numbers, like kg:+996601`)
    return []
  })
}
