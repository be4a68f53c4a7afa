import { languages, marketIds, type Language, type MarketId } from '../phone/markets.js'
import { oneOf, openOneOf } from './schemas.js'

/** The language of a request. */
export const LanguageSchema = oneOf<Language>(languages, 'Language', 'A language of messages.')

/** The market of a request. */
export const MarketIdSchema = oneOf<MarketId>(marketIds, 'MarketId',
  'The market of a national number. A country code in the number takes precedence.')

/** The language of a response. */
export const OpenLanguage = (description: string) => openOneOf<Language>(languages, description)

/** The market of a response. */
export const OpenMarket = (description: string) => openOneOf<MarketId>(marketIds, description)
