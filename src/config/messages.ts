import type { ProviderOptions } from '../messages/index.js'
import type { TwilioOptions } from '../messages/providers/twilio.js'
import type { WebhookOptions } from '../messages/providers/webhook.js'
import type { PumpingGuardOptions } from '../messages/pumping-guard.js'
import { messageIssues, type MessageOptions } from '../messages/text.js'
import type { EnvReader } from './env.js'

/** The provider and its account. What is wrong with a variable of another provider is an issue too. */
export function readProvider (env: EnvReader, isProduction: boolean): ProviderOptions {
  const name = env.choice('SMS_PROVIDER', ['console', 'webhook', 'twilio'], 'console')
  if (isProduction) {
    env.require('SMS_PROVIDER')
    // A name that is none of these has its issue already.
    if (env.text('SMS_PROVIDER') === 'console') env.issues.push('SMS_PROVIDER console is for development only')
  }
  const timeoutMs = env.integer('SMS_TIMEOUT_MS', 5000, 100, 60_000)
  const webhook = readWebhook(env, name === 'webhook', timeoutMs)
  const twilio = readTwilio(env, name === 'twilio', timeoutMs)
  if (name === 'webhook') return { name, ...webhook }
  return name === 'twilio' ? { name, ...twilio } : { name }
}

/** Standard Webhooks 1.0.0: whsec_ and a key of at least 24 bytes in base64. */
function isWebhookSecret (value: string) {
  const key = Buffer.from(value.replace('whsec_', ''), 'base64')
  return key.length >= 24 && value === `whsec_${key.toString('base64')}`
}

function readWebhook (env: EnvReader, isUsed: boolean, timeoutMs: number): WebhookOptions {
  if (isUsed) env.require('SMS_WEBHOOK_URL', 'SMS_WEBHOOK_SECRET')
  const url = env.url('SMS_WEBHOOK_URL', ['https:', 'http:']) ?? ''
  // fetch refuses such a URL at every send, with an error that shows it.
  if (url && (new URL(url).username || new URL(url).password)) {
    env.issues.push('SMS_WEBHOOK_URL must carry no user and no password')
  }
  const secret = env.text('SMS_WEBHOOK_SECRET') ?? ''
  if (isUsed && secret && !isWebhookSecret(secret)) {
    env.issues.push('SMS_WEBHOOK_SECRET must be whsec_ and at least 24 bytes in base64')
  }
  return { url, secret, timeoutMs }
}

function readTwilio (env: EnvReader, isUsed: boolean, timeoutMs: number): TwilioOptions {
  if (isUsed) env.require('TWILIO_ACCOUNT_SID', 'TWILIO_AUTH_TOKEN')
  const accountSid = env.text('TWILIO_ACCOUNT_SID') ?? ''
  const from = env.text('TWILIO_FROM')
  const messagingServiceSid = env.text('TWILIO_MESSAGING_SERVICE_SID')
  const check = (isGood: boolean, issue: string) => { if (isUsed && !isGood) env.issues.push(issue) }
  check(!accountSid || /^AC[0-9a-f]{32}$/.test(accountSid), 'TWILIO_ACCOUNT_SID must be AC and 32 hexadecimal digits')
  check(!messagingServiceSid || /^MG[0-9a-f]{32}$/.test(messagingServiceSid),
    'TWILIO_MESSAGING_SERVICE_SID must be MG and 32 hexadecimal digits')
  check(!from !== !messagingServiceSid, 'TWILIO_FROM or TWILIO_MESSAGING_SERVICE_SID is required, and only one of them')
  return {
    accountSid,
    authToken: env.text('TWILIO_AUTH_TOKEN') ?? '',
    sender: messagingServiceSid ? { messagingServiceSid } : { from: from ?? '' },
    timeoutMs
  }
}

/** Labels of letters, digits and inner hyphens (RFC 1123, section 2.1), in lower case, as phones compare them. */
const hostName = /^(?!-)[a-z0-9-]+(?<!-)(?:\.(?!-)[a-z0-9-]+(?<!-))*$/

/** What a message says besides its code. */
export function readMessage (env: EnvReader): MessageOptions {
  const message = {
    appName: env.text('SMS_APP_NAME') ?? 'Marque',
    webotpDomain: env.text('SMS_WEBOTP_DOMAIN'),
    androidHash: env.text('SMS_ANDROID_HASH')
  }
  if (message.androidHash && !/^[A-Za-z0-9+/]{11}$/.test(message.androidHash)) {
    env.issues.push('SMS_ANDROID_HASH must be the 11 characters that Android made from the package and its certificate')
  }
  if (message.webotpDomain && !hostName.test(message.webotpDomain)) {
    env.issues.push('SMS_WEBOTP_DOMAIN must be a host name like app.example.com')
  }
  if (message.webotpDomain && message.androidHash) {
    env.issues.push('SMS_WEBOTP_DOMAIN and SMS_ANDROID_HASH each need the last line, set one of them')
  }
  env.issues.push(...messageIssues(message))
  return message
}

export function readPumpingGuard (env: EnvReader): PumpingGuardOptions {
  return {
    mode: env.choice('SMS_GUARD', ['enforce', 'observe', 'off'], 'enforce'),
    blockSends: env.integer('SMS_GUARD_BLOCK_SENDS', 20, 1, 1_000_000),
    marketSends: env.integer('SMS_GUARD_MARKET_SENDS', 200, 1, 100_000_000),
    clientSends: env.integer('SMS_GUARD_CLIENT_SENDS', 10, 1, 1_000_000),
    minVerifiedPercent: env.integer('SMS_GUARD_MIN_VERIFIED_PERCENT', 20, 0, 100)
  }
}

/** The ceiling of messages per market and day; undefined for none. */
export const readMarketDailyMax = (env: EnvReader) => env.integer('SMS_MARKET_DAILY_MAX', undefined, 1, 100_000_000)
