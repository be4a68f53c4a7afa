import { Type } from 'typebox'
import { languages, marketIds, type Language, type MarketId } from './markets.js'

/** Formats for Ajv beside the standard ones. */
export const formats = {
  /** Text that PostgreSQL stores as it came: no NUL, no half of a surrogate pair. */
  text: (value: string) => !value.includes('\0') && value.isWellFormed(),
  /** The URL standard lets control characters pass; no picture needs one. */
  'http-url': (value: string) => /^https?:\/\/[^\s\p{Cc}"<>\\^`{|}]+$/iu.test(value) && URL.canParse(value) && formats.text(value)
}

/** Text of at most `maxLength` characters (code points, as PostgreSQL counts them) that is not blank. */
export const RequiredText = (maxLength: number) => Type.String({ minLength: 1, maxLength, format: 'text', pattern: '\\S' })

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
