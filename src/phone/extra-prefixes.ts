import { markets, type MarketId } from './markets.js'

/** A range of numbers that the numbering plan lacks. `prefix` is the beginning of its numbers in E.164. */
export interface ExtraPrefix { market: MarketId, prefix: string }

/** The length of an E.164 number of a market, in characters. */
export const extraLength = (market: MarketId) =>
  markets[market].prefix.length + markets[market].phoneFormat.replace(/[^X]/g, '').length

/** The market of a number in an extra range, where only the length is checked. Undefined outside these ranges. */
export function extraMarket (extraPrefixes: readonly ExtraPrefix[], phone: string): MarketId | undefined {
  return extraPrefixes.find(({ market, prefix }) =>
    phone.startsWith(prefix) && phone.length === extraLength(market))?.market
}
