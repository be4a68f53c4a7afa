import type { PhoneOptions } from '../auth/phone-input.js'
import { extraLength, type ExtraPrefix } from '../phone/extra-prefixes.js'
import { isMarket, markets } from '../phone/markets.js'
import type { EnvReader } from './env.js'
import { readTestPhones } from './test-phones.js'

/** The numbers that are accepted whatever the numbering plan says. */
export function readPhones (env: EnvReader, isProduction: boolean): PhoneOptions {
  return { testPhones: readTestPhones(env, isProduction), extraPrefixes: readExtraPrefixes(env) }
}

/** Reads the entries of PHONE_EXTRA_PREFIXES, like `kg:+996601`. An issue names the place of its entry. */
function readExtraPrefixes (env: EnvReader): ExtraPrefix[] {
  return env.list('PHONE_EXTRA_PREFIXES').flatMap((entry, index) => {
    const [, market, prefix = ''] = /^(\w+):(\+[0-9]+)$/.exec(entry) ?? []
    // A whole market as a range would pass its premium and toll-free numbers.
    if (isMarket(market) && prefix.startsWith(markets[market].prefix) && prefix !== markets[market].prefix &&
      prefix.length <= extraLength(market)) return [{ market, prefix }]
    const form = 'must be a market and the beginning of its numbers, like kg:+996601'
    env.issues.push(`PHONE_EXTRA_PREFIXES entry ${index + 1} ${form}`)
    return []
  })
}
