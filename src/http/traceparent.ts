/** W3C Trace Context, section 3.2: no version ff, and neither id is all zeros. Ids are in lower case. */
const form = /^(?!ff)[0-9a-f]{2}-(?!0{32})[0-9a-f]{32}-(?!0{16})[0-9a-f]{16}-[0-9a-f]{2}$/

/** A `traceparent` header, to log and to pass on; undefined where it is missing or malformed. */
export const readTraceparent = (header: unknown) => typeof header === 'string' && form.test(header) ? header : undefined
