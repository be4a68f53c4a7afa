import { gt, inArray } from 'drizzle-orm'
import { users } from '../db/schema.js'
import { maskPhone, type MarketId } from '../phone/markets.js'
import { extraMarket } from '../phone/extra-prefixes.js'
import { canonicalPhone, parsePhone } from '../phone/phone-number.js'
import type { Database } from '../db/database.js'
import type { PhoneOptions } from '../auth/phone-input.js'
import { ok, warning, type Finding } from './finding.js'

const rowsPerPage = 5000
const maxSamples = 3

const e164 = /^\+[1-9]\d{6,14}$/

/** Why the owners of such numbers cannot sign in, and what to do. */
const faults = {
  notE164: 'not in E.164: rewrite them like +996555123456, or their owners get a new account at the next login',
  noMarket: 'of no market, or of a kind that receives no messages: their owners need another number',
  refused: 'refused by the numbering plan: correct them'
}
type Fault = keyof typeof faults

/**
 * Why a stored number cannot sign in; undefined if it can. `exempt` returns the market of a number that need not follow
 * the numbering plan.
 */
function faultOf (phone: string, exempt: (phone: string) => MarketId | undefined): Fault | undefined {
  if (!e164.test(phone)) return 'notE164'
  const parsed = parsePhone(phone, { exempt })
  if (parsed.ok) return parsed.phone === phone ? undefined : 'notE164'
  return ['no_market', 'no_messages'].includes(parsed.fault) ? 'noMarket' : 'refused'
}

/** Counts numbers and keeps a few of them, masked. */
function tally () {
  let count = 0
  const samples: string[] = []
  return {
    add (phone: string) {
      count++
      if (samples.length < maxSamples) samples.push(maskPhone(phone))
    },
    count: () => count,
    toString: () => `${count} (${samples.join(', ')})`
  }
}

/** Reads all of `users`, page by page, for numbers that cannot sign in and for those that several rows share. */
export async function checkNumbers (db: Database, { testPhones, extraPrefixes }: PhoneOptions): Promise<Finding[]> {
  const exempt = (phone: string) => testPhones.get(phone)?.market ?? extraMarket(extraPrefixes, phone)
  const tallies = { notE164: tally(), noMarket: tally(), refused: tally() }
  const duplicates = tally()
  /** The E.164 form of the numbers that are stored in another form. */
  const rewritten = new Set<string>()
  let total = 0
  let lastId: number | undefined = -1
  while (lastId !== undefined) {
    const page: Array<{ id: number, phone: string }> = await db
      .select({ id: users.id, phone: users.phoneNumber }).from(users)
      .where(gt(users.id, lastId)).orderBy(users.id).limit(rowsPerPage)
    const forms: string[] = []
    for (const { phone } of page) {
      const fault = faultOf(phone, exempt)
      if (fault) tallies[fault].add(phone)
      const form = fault === 'notE164' ? canonicalPhone(phone) : undefined
      if (form === undefined || form === phone) continue
      if (rewritten.has(form)) duplicates.add(form)
      else forms.push(form)
      rewritten.add(form)
    }
    if (forms.length > 0) {
      const others = await db.select({ phone: users.phoneNumber }).from(users).where(inArray(users.phoneNumber, forms))
      for (const { phone } of others) duplicates.add(phone)
    }
    total += page.length
    lastId = page.at(-1)?.id
  }
  const findings = (Object.keys(faults) as Fault[]).filter((fault) => tallies[fault].count() > 0)
    .map((fault) => warning('users numbers', `${tallies[fault]} of ${total} are ${faults[fault]}`))
  if (duplicates.count() > 0) {
    findings.push(warning('users duplicates',
      `${duplicates} are one number in several rows: merge these rows, only the one in E.164 can sign in`))
  }
  return findings.length > 0 ? findings : [ok('users numbers', `all ${total} can sign in, none occurs twice`)]
}
