import type { LoggerOptions } from 'pino'
import { readTraceparent } from '../http/traceparent.js'

/** Long runs of digits may be phone numbers or codes, long runs of base64url tokens or keys. */
const secrets = /\+?\d(?:[ ()-]*\d){5,}|[A-Za-z0-9_+/-]{32,}={0,2}|eyJ[\w-]+(?:\.[\w-]*)*/g
const scrub = (text: string) => text.replace(secrets, '•')
/** The slashes in a stack are those of paths, not of base64. */
const scrubStack = (stack: string) => stack.split('/').map(scrub).join('/')

/** Longest chain of causes that is followed, and the depth to which a value is shown. */
const maxDepth = 5

/**
 * What a log may show of an error: its type and code, and its message and stack after scrubbing. Drizzle puts SQL and
 * parameters into the message, ioredis puts arguments into fields: only the innermost cause is shown, without its
 * fields.
 */
export function serializeError (
  error: unknown
): { type: string, code?: string | undefined, message?: string, stack?: string | undefined } {
  let root = error
  for (let depth = 0; depth < maxDepth && root instanceof Error && root.cause instanceof Error; depth++) {
    root = root.cause
  }
  if (!(root instanceof Error)) return { type: typeof root }
  const { code } = root as NodeJS.ErrnoException
  return {
    type: scrub(String(root.name)),
    code: code === undefined ? undefined : scrub(String(code)),
    message: scrub(String(root.message)),
    stack: root.stack?.split('\n').filter((line) => /^ {4}at .*:\d+:\d+\)?$/.test(line)).map(scrubStack).join('\n')
  }
}

/** What a line may show of any other value: text is scrubbed at every depth, and instances of classes are hidden. */
function clean (value: unknown, depth = 0): unknown {
  if (typeof value === 'string') return scrub(value)
  if (typeof value !== 'object' || value === null) return value
  if (value instanceof Error) return serializeError(value)
  if (depth === maxDepth) return '•'
  if (Array.isArray(value)) return value.map((item) => clean(item, depth + 1))
  if (Object.getPrototypeOf(value) !== Object.prototype) return '•'
  return Object.fromEntries(Object.entries(value).map(([name, item]) => [scrub(name), clean(item, depth + 1)]))
}

const uuid = /^[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}$/i
/** A client may put a phone number or a code into its request id. */
const cleanId = (id: unknown) => typeof id === 'string' && !uuid.test(id)
  ? id.replace(/(?<![A-Za-z0-9])\d{6,15}(?![A-Za-z0-9])/g, '•')
  : id

const serializers = {
  err: serializeError,
  error: serializeError,
  msg: (message: unknown) => scrub(String(message)),
  request_id: cleanId,
  message_id: cleanId,
  traceparent: readTraceparent,
  req: () => undefined,
  res: () => undefined
}

/** Pino options. Requests, replies and errors reach a line through these serializers only. */
export function loggerOptions (level: string): LoggerOptions {
  return {
    level,
    hooks: {
      // In a line without a message, pino would show the message of the error, past the serializers.
      logMethod (args, method) {
        const [first, message] = args as [unknown, string | undefined]
        if (typeof first === 'string' || message !== undefined) return method.apply(this, args)
        const bindings = first instanceof Error ? { event: 'error', err: first } : first as { event?: string }
        method.apply(this, [bindings, bindings?.event ?? ''])
      }
    },
    formatters: {
      log: (line) => Object.fromEntries(Object.entries(line)
        .map(([name, value]) => [name, Object.hasOwn(serializers, name) ? value : clean(value)]))
    },
    serializers
  }
}
