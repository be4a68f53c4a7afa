import type { FastifyBaseLogger, FastifyRequest } from 'fastify'
import type { LogFn, Logger, LoggerOptions } from 'pino'
import { clientAddress } from './client-address.js'
import { maskPhone } from './markets.js'

/** Long runs of digits are numbers or codes, long runs of base64 or base64url are tokens or keys. */
const secrets = /\+?\d(?:[ ()-]*\d){5,}|[A-Za-z0-9_+/-]{32,}={0,2}|eyJ[\w-]+(?:\.[\w-]*)*/g
const scrub = (text: string) => text.replace(secrets, '•')

/** The frames of a stack, without the message above them. */
const frames = ({ stack = '', message }: Error) =>
  stack.replace(message, '').split('\n').filter((line) => line.startsWith('    at ')).join('\n')

/**
 * What a log may show of an error: its type, its code, a scrubbed message and where it was thrown.
 * Drizzle puts SQL and parameters into the message, ioredis the arguments into fields: of a wrapped error only
 * the cause is shown, and no field is taken over.
 */
export function serializeError (error: unknown): { type: string, code?: unknown, message?: string, stack?: string } {
  if (!(error instanceof Error)) return { type: typeof error }
  if (error.cause instanceof Error) return serializeError(error.cause)
  return {
    type: error.name,
    code: (error as NodeJS.ErrnoException).code,
    message: scrub(error.message),
    stack: frames(error)
  }
}

/** For an error without other words pino takes the error's own message, past the serializers: here it is scrubbed too. */
function logMethod (this: Logger, args: Parameters<LogFn>, log: LogFn) {
  const [given, message] = args as [unknown, string?]
  const error = given instanceof Error ? given : (given as { err?: unknown } | undefined)?.err
  if (error instanceof Error && (message === undefined || message === error.message)) log.call(this, given, serializeError(error).message)
  else log.apply(this, args)
}

/** Pino options: no request, reply or error reaches a line but through these serializers. */
export function loggerOptions (level: string): LoggerOptions {
  return {
    level,
    serializers: { err: serializeError, error: serializeError, req: () => undefined, res: () => undefined },
    hooks: { logMethod }
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
