import type { FastifyPluginAsyncTypebox } from '@fastify/type-provider-typebox'
import type { FastifyRequest } from 'fastify'
import Negotiator from 'negotiator'
import { clientAddress } from '../http/client-ip.js'
import { readTraceparent } from '../http/traceparent.js'
import { formatPhone, languages, type Language } from '../phone/markets.js'
import { withoutSeparators } from '../phone/phone-number.js'
import { displayName } from '../users/schemas.js'
import { logoutSchema, marketsSchema, sendVerificationSchema, supportedMarkets, verifyCodeSchema } from './schemas.js'
import type { AuthService } from './service.js'

/** The language that an Accept-Language header prefers (RFC 9110, section 12.5.4). "*" counts as nothing. */
function acceptedLanguage (header = ''): Language | undefined {
  const named = header.split(',').filter((range) => !range.trim().startsWith('*')).join(',')
  if (!named) return undefined
  return new Negotiator({ headers: { 'accept-language': named } }).language([...languages]) as Language | undefined
}

interface Options {
  auth: AuthService
  resendSeconds: number
}

/** The routes of /auth. */
export const authRoutes: FastifyPluginAsyncTypebox<Options> = async (app, { auth, resendSeconds }) => {
  const audit = (request: FastifyRequest) => app.audit.bind(null, request)

  app.post('/send-verification', { schema: sendVerificationSchema, onRequest: app.limitAddress }, async (request) => {
    const { phone, market, language } = request.body
    const wanted = language ?? acceptedLanguage(request.headers['accept-language'])
    const traceparent = readTraceparent(request.headers.traceparent)
    const input = { phone, market, language: wanted, clientIp: clientAddress(request), traceparent }
    const sent = await auth.sendCode(input, audit(request))
    return {
      success: true as const,
      message: 'A code is on its way by SMS.',
      phone_number: formatPhone(sent.phone),
      market: sent.market,
      language: sent.language,
      expires_in: sent.expiresInSeconds,
      expires_in_minutes: Math.ceil(sent.expiresInSeconds / 60),
      // The cooldown ends when the code expires.
      retry_after: Math.min(resendSeconds, sent.expiresInSeconds)
    }
  })

  app.post('/verify-code', { schema: verifyCodeSchema, onRequest: app.limitAddress }, async (request) => {
    const { phone, market: named, verification_code: typed } = request.body
    const guess = { phone, market: named, code: withoutSeparators(typed), clientIp: clientAddress(request) }
    const { user, isNew, market, sessionStart } = await auth.verifyCode(guess, audit(request))
    const { token, expiresInSeconds } = app.signToken({ id: user.id, market, sessionStart })
    return {
      success: true as const,
      message: 'Signed in.',
      access_token: token,
      token_type: 'bearer' as const,
      expires_in: expiresInSeconds,
      user: {
        id: user.id,
        phone: user.phoneNumber,
        name: displayName(user),
        full_name: user.fullName,
        is_active: true,
        is_verified: true,
        market
      },
      market,
      is_new_user: isNew
    }
  })

  app.post('/logout', { schema: logoutSchema, onRequest: [app.authenticate, app.limitUser] }, async (request) => {
    await auth.logout(request.user, audit(request))
    return { success: true as const, message: 'Signed out on every device.' }
  })

  app.get('/markets', { schema: marketsSchema }, () => supportedMarkets)
}
