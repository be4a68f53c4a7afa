import { isIP } from 'node:net'
import { Type } from 'typebox'
import { languages, marketIds, type Language, type MarketId } from './markets.js'

/** Characters that spoof what others see and no name needs: controls; overrides, embeddings and isolates of UAX #9. */
const hidden = /[\p{Cc}\u202a-\u202e\u2066-\u2069]/u

/** A host name with a dot. The URL standard has turned every spelling of an IPv4 address into four numbers by then. */
const domainName = /^[a-z0-9_-]+(\.[a-z0-9_-]+)+$/

/** Whether a picture can lie there: on a host of the public DNS, without credentials. */
function isPictureUrl (value: string): boolean {
  if (!/^https?:\/\/[^\s"<>\\^`{|}]+$/iu.test(value) || !formats.text(value) || !URL.canParse(value)) return false
  const { hostname, username, password, port } = new URL(value)
  const host = hostname.replace(/\.$/, '')
  return domainName.test(host) && isIP(host) === 0 && username === '' && password === '' && port !== '0'
}

/**
 * Formats for Ajv beside the standard ones. Text is stored as it came, so half of a surrogate pair, which PostgreSQL does
 * not store, is refused. The joiners and the marks U+200E and U+200F stay: scripts need them.
 */
export const formats = {
  text: (value: string) => !hidden.test(value) && value.isWellFormed(),
  /** Line breaks are what people type into a field of several lines. */
  'multiline-text': (value: string) => formats.text(value.replace(/\r?\n/g, '')),
  'picture-url': isPictureUrl
}

/** What is wrong with a text that does not have its format. */
export const formatComplaints: Record<keyof typeof formats, string> = {
  text: 'must not contain control characters, line breaks, bidirectional overrides or unpaired surrogates',
  'multiline-text': 'must not contain control characters other than line breaks, bidirectional overrides or unpaired surrogates',
  'picture-url': 'must be an http or https URL of a host name with a dot, without user and password'
}

/** At least one character that is no white space. */
export const notBlank = '\\S'

/** Text of at most `maxLength` characters (code points, as PostgreSQL counts them) that is not blank. */
export const RequiredText = (maxLength: number, format: keyof typeof formats = 'text') =>
  Type.String({ minLength: 1, maxLength, format, pattern: notBlank })

/** Text of at most `maxLength` characters, or null. */
export const OptionalText = (maxLength: number) =>
  Type.Optional(Type.Union([Type.String({ maxLength, format: 'text' }), Type.Null()]))

/** One of several texts; in the document it stands under its title. */
export const oneOf = <T extends string>(values: readonly T[], title: string) => Type.Unsafe<T>({ type: 'string', enum: [...values], title })

export const LanguageSchema = oneOf<Language>(languages, 'Language')
export const MarketSchema = oneOf<MarketId>(marketIds, 'Market')
export const Nullable = <T extends Type.TSchema>(schema: T) => Type.Union([schema, Type.Null()])
/** ISO 8601 in UTC. */
export const Timestamp = Type.String({ format: 'date-time' })
export const DoneSchema = Type.Object({ success: Type.Literal(true), message: Type.String() })
