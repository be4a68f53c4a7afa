import type { FastifyBaseLogger, FastifyRequest } from 'fastify'
import type { LoggerOptions } from 'pino'
import { clientAddress } from './client-address.js'
import { maskPhone } from './markets.js'

/** Long runs of digits are numbers or codes, long runs of base64url are tokens or keys. */
const secrets = /\+?\d(?:[ ()-]*\d){5,}|[A-Za-z0-9_+/-]{32,}={0,2}|eyJ[\w-]+(?:\.[\w-]*)*/g
const scrub = (text: string) => text.replace(secrets, '•')

/**
 * What a log may show of an error: its type, its code and a scrubbed message and stack.
 * Drizzle puts SQL and parameters into the message, ioredis the arguments into fields: of a wrapped error only
 * the cause is shown, and no field is taken over.
 */
export function serializeError (error: unknown): object {
  if (!(error instanceof Error)) return { type: typeof error }
  if (error.cause instanceof Error) return serializeError(error.cause)
  return {
    type: error.name,
    code: (error as NodeJS.ErrnoException).code,
    message: scrub(error.message),
    stack: error.stack && scrub(error.stack.slice(error.stack.indexOf('\n    at ') + 1))
  }
}

/** Pino options: no request, reply or error reaches a line but through these serializers. */
export function loggerOptions (level: string): LoggerOptions {
  return {
    level,
    hooks: {
      // Without a message of its own a line would carry that of its error, past the serializers.
      logMethod (args, method) {
        const [first, message] = args as [unknown, string | undefined]
        if (typeof first === 'string' || message !== undefined) return method.apply(this, args)
        const bindings = first instanceof Error ? { event: 'error', err: first } : first as { event?: string }
        method.apply(this, [bindings, bindings.event])
      }
    },
    serializers: { err: serializeError, error: serializeError, req: () => undefined, res: () => undefined }
  }
}

export type AuthEvent =
  'code_sent' | 'sms_failed' | 'login' | 'wrong_code' | 'limit_hit' | 'guard_tripped' | 'logout' | 'account_deleted'
/** Tells the log what happened to whom. */
export type Audit = (event: AuthEvent, who: { userId?: number, phone?: string }, more?: object) => void

/** One line for something that happened to an account; the number is masked here and nowhere else. */
export function logEvent (request: FastifyRequest, event: AuthEvent, who: { userId?: number, phone?: string }, more: object = {}) {
  request.log[event === 'guard_tripped' ? 'warn' : 'info']({
    event,
    user_id: who.userId,
    phone: who.phone && maskPhone(who.phone),
    client: clientAddress(request),
    request_id: request.id,
    ...more
  })
}

export type OutageLog = ReturnType<typeof outageLog>

/** Tells once that a dependency went away and once that it is back, however often it is asked. */
export function outageLog (log: FastifyBaseLogger, dependency: string) {
  let isDown = false
  return {
    down (err: unknown) {
      if (!isDown) log.error({ event: 'dependency_down', dependency, err }, `${dependency} does not answer`)
      isDown = true
    },
    up () {
      if (isDown) log.info({ event: 'dependency_up', dependency }, `${dependency} answers again`)
      isDown = false
    }
  }
}
