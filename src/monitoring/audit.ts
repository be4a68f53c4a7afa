import type { FastifyRequest } from 'fastify'
import { Counter, type Registry } from 'prom-client'
import { clientAddress } from '../http/client-ip.js'
import { marketIds, marketOf, maskPhone } from '../phone/markets.js'

export type AuthEvent =
  'code_sent' | 'sms_failed' | 'login' | 'wrong_code' | 'limit_hit' | 'guard_tripped' | 'daily_max_near' |
  'test_phone' | 'logout' | 'account_deleted'
const warnings = new Set<AuthEvent>(['guard_tripped', 'daily_max_near', 'test_phone'])
/** Logs an event of an account. */
export type Audit = (event: AuthEvent, who: { userId?: number | undefined, phone?: string }, more?: object) => void

/** Logs one line for an event of an account. The phone number is masked here and nowhere else. */
function logEvent (
  request: FastifyRequest, event: AuthEvent, who: { userId?: number | undefined, phone?: string }, more: object = {}
) {
  request.log[warnings.has(event) ? 'warn' : 'info']({
    event,
    user_id: who.userId,
    phone: who.phone && maskPhone(who.phone),
    client: clientAddress(request),
    request_id: request.id,
    traceparent: request.headers.traceparent,
    ...more
  })
}

/** The problem code with which each limit refuses. */
const limits = {
  address: 'rate_limited',
  guesses: 'rate_limited',
  login: 'rate_limited',
  user_in_flight: 'rate_limited',
  user_writes: 'rate_limited',
  too_soon: 'resend_too_soon',
  too_many: 'too_many_sends'
}

/** The label value of an event without a number. */
const unknown = 'unknown'

const scopes = ['client', 'block', 'market', 'daily']

interface Details { limit: keyof typeof limits, reason: string, scope: string, mode: string }

/**
 * Registers the counters of audit events. Returns the function that logs and counts an event. An event without a
 * number counts for the market `unknown`.
 */
export function auditTrail (registry: Registry) {
  const registers = [registry]
  const sent = new Counter({
    name: 'phone_auth_codes_sent_total', help: 'Codes handed to a provider', labelNames: ['market'], registers
  })
  const verified = new Counter({
    name: 'phone_auth_codes_verified_total', help: 'Codes exchanged for a token', labelNames: ['market'], registers
  })
  const refused = new Counter({
    name: 'phone_auth_refused_total',
    help: 'Refused sends and verifications',
    labelNames: ['reason', 'market'],
    registers
  })
  const guardDecisions = new Counter({
    name: 'phone_auth_sms_guard_total',
    help: 'Decisions of the pumping guard against a send',
    labelNames: ['scope', 'market', 'mode'],
    registers
  })
  // rate() and increase() do not see the first event of a series that begins with it, so each series begins at 0.
  const reasons = [
    ...new Set(Object.values(limits)), 'invalid_code', 'sms_failed', 'opted_out', 'unsupported_phone', 'sms_guard'
  ]
  for (const reason of reasons) for (const market of [...marketIds, unknown]) refused.inc({ reason, market }, 0)
  for (const market of marketIds) {
    sent.inc({ market }, 0)
    verified.inc({ market }, 0)
    for (const scope of scopes) {
      for (const mode of ['enforce', 'observe']) guardDecisions.inc({ scope, market, mode }, 0)
    }
  }
  const count: Partial<Record<AuthEvent, (market: string, more: Details) => void>> = {
    code_sent: (market) => sent.inc({ market }),
    login: (market) => verified.inc({ market }),
    wrong_code: (market) => refused.inc({ reason: 'invalid_code', market }),
    sms_failed: (market, { reason }) => refused.inc({ reason, market }),
    limit_hit: (market, { limit }) => refused.inc({ reason: limits[limit], market }),
    guard_tripped (market, { scope, mode }) {
      guardDecisions.inc({ scope, market, mode })
      if (mode === 'enforce') refused.inc({ reason: 'sms_guard', market })
    }
  }

  return (request: FastifyRequest, ...[event, who, more = {}]: Parameters<Audit>) => {
    logEvent(request, event, who, more)
    count[event]?.(who.phone ? marketOf(null, who.phone) : unknown, more as Details)
  }
}
