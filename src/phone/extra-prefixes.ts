import { markets, type MarketId } from './markets.js'

/** A range of numbers that the numbering plan lacks: the beginning of its numbers in E.164. */
export interface ExtraPrefix { market: MarketId, prefix: string }

/** How many characters a number of a market has in E.164. */
export const extraLength = (market: MarketId) =>
  markets[market].prefix.length + markets[market].phoneFormat.replace(/[^X]/g, '').length

/** The market of a number in one of the extra ranges, where only the length counts; undefined outside of them. */
export function extraMarket (extraPrefixes: readonly ExtraPrefix[], phone: string): MarketId | undefined {
  return extraPrefixes.find(({ market, prefix }) =>
    phone.startsWith(prefix) && phone.length === extraLength(market))?.market
}
