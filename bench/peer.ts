import { startChild } from './harness/children.js'
import { inTurn, startLoad } from './harness/measure.js'
import { usersSeeded, type Stores } from './harness/stores.js'
import { ratio, type Row } from './harness/table.js'

/** The guarded route beside the same written by hand on Express. */
export async function peer (stores: Stores): Promise<Row[]> {
  const seeded = await stores.seed(usersSeeded)
  const load = await startLoad('/auth/verify-token', seeded)
  const service = await startChild('servers/service', {}, seeded.env)
  const express = await startChild('servers/express', {}, seeded.env)
  const { ours, theirs } = await inTurn({ ours: load(service), theirs: load(express) })
  return [
    ratio('guarded ÷ Express 5, jsonwebtoken, pg', '/s', '≥ 4.0', ours.map(({ perSecond }) => perSecond), theirs.map(({ perSecond }) => perSecond))
  ]
}
