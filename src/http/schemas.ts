import { isIP } from 'node:net'
import { Type, type Static, type TSchema } from 'typebox'
import { withoutSeparators } from '../phone/phone-number.js'

/**
 * Characters that spoof what others see and that no name needs: controls; overrides, embeddings, isolates of UAX #9.
 */
const hidden = /[\p{Cc}\u202a-\u202e\u2066-\u2069]/u

/** A host name with a dot. The URL parser has already turned every spelling of an IPv4 address into four numbers. */
const domainName = /^[a-z0-9_-]+(\.[a-z0-9_-]+)+$/

/** Whether a text is the URL of a picture: on a host of the public DNS, without credentials. */
function isPictureUrl (value: string): boolean {
  if (!/^https?:\/\/[^\s"<>\\^`{|}]+$/iu.test(value) || !formats.text(value) || !URL.canParse(value)) return false
  const { hostname, username, password, port } = new URL(value)
  const host = hostname.replace(/\.$/, '')
  return domainName.test(host) && isIP(host) === 0 && username === '' && password === '' && port !== '0'
}

/**
 * Formats for Ajv in addition to the standard ones. Text is stored as received, so half of a surrogate pair is refused:
 * PostgreSQL does not store it. The joiners and the marks U+200E and U+200F are accepted: scripts need them.
 */
export const formats = {
  text: (value: string) => !hidden.test(value) && value.isWellFormed(),
  /** Text for a field of several lines, into which people type line breaks. */
  'multiline-text': (value: string) => formats.text(value.replace(/\r?\n/g, '')),
  'picture-url': isPictureUrl,
  'one-time-code': (value: string) => /^[0-9]{6}$/.test(withoutSeparators(value))
}

/** What is wrong with a text that does not match its format. */
export const formatComplaints: Record<keyof typeof formats, string> = {
  text: 'must not contain control characters, line breaks, bidirectional overrides or unpaired surrogates',
  'multiline-text':
    'must not contain control characters other than line breaks, bidirectional overrides or unpaired surrogates',
  'picture-url': 'must be an http or https URL of a host name with a dot, without user and password',
  'one-time-code': 'must have six digits'
}

/** A pattern for at least one character that is not white space. */
export const notBlank = '\\S'

/**
 * For each format a pattern for clients, in the syntax that regular expressions of JavaScript, Java, Python and Go
 * share. It matches all that the format accepts, and refuses most other text: control characters, blank text, another
 * scheme.
 */
export const documentedPatterns: Record<keyof typeof formats, (isRequired: boolean) => string> = {
  text: (isRequired) => textWithout('\\x00-\\x1f\\x7f-\\x9f', isRequired),
  'multiline-text': (isRequired) => textWithout('\\x00-\\x09\\x0b\\x0c\\x0e-\\x1f\\x7f-\\x9f', isRequired),
  'picture-url': () => '^[Hh][Tt][Tt][Pp][Ss]?://',
  'one-time-code': () => '^([^0-9]*[0-9]){6}[^0-9]*$'
}
const textWithout = (refused: string, isRequired: boolean) =>
  isRequired ? `^[^${refused}]*[^\\s${refused}][^${refused}]*$` : `^[^${refused}]*$`

/** The schema with null as a second type. In a union with null, client generators lose which members are required. */
export const Nullable = <T extends TSchema & { type: string }>(schema: T) =>
  Type.Unsafe<Static<T> | null>({ ...schema, type: [schema.type, 'null'] })

/** Text of at most `maxLength` characters (code points, as PostgreSQL counts them) that is not blank. */
export const RequiredText = (maxLength: number, description: string, format: keyof typeof formats = 'text') =>
  Type.String({ minLength: 1, maxLength, format, pattern: notBlank, description })

/** Text of at most `maxLength` characters, or null. */
export const OptionalText = (maxLength: number, description: string) =>
  Type.Optional(Nullable(Type.String({ maxLength, format: 'text', description })))

/** One of several values in a request; any other is refused. `title` is its name in the document. */
export const oneOf = <T extends string>(values: readonly T[], title: string, description: string) =>
  Type.Unsafe<T>({ type: 'string', enum: [...values], title, description })

/** One of several values in a response: a plain string, because current clients must be able to read future values. */
export const openOneOf = <T extends string>(values: readonly T[], description: string) =>
  Type.Unsafe<T>({
    type: 'string', description: `${description} More values may be added.`, 'x-extensible-enum': [...values]
  })

/** A boolean that is always true. Client generators turn a constant into an enumeration of strings. */
export const True = (description: string) => Type.Unsafe<true>({ type: 'boolean', description })

export const Int32 = (description: string) => Type.Integer({ format: 'int32', description })
export const UserId = Type.Integer({ format: 'int64', description: 'The id of the user, up to 2^53 - 1.' })
/** ISO 8601 in UTC. */
export const Timestamp = (description: string) => Type.String({ format: 'date-time', description })

/** The members that every successful response has in addition to its content. */
export const success = { success: True('Always true; a failure is a Problem.') }
export const done = { ...success, message: Type.String({ description: 'A sentence for the person.' }) }
export const DoneSchema = Type.Object(done, { title: 'Done' })
