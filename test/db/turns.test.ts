import t from 'tap'
import { line, NoTurn, turns } from '../../src/db/turns.js'

/** Work that ends when the test calls `end`. */
function job () {
  let end!: (error?: Error) => void
  const ended = new Promise<void>((resolve, reject) => { end = (error) => error ? reject(error) : resolve() })
  return { end, work: () => ended }
}

const [soon, late] = [20, 60_000]

t.test('at most two pieces of work run at once, and the others follow in order of arrival', async (t) => {
  const { run, waitingCount, isIdle } = line(2)
  const [first, second] = [job(), job()]
  const order: number[] = []
  const all = [
    run(late, first.work), run(late, second.work), ...[1, 2, 3].map((n) => run(late, async () => { order.push(n) }))
  ]

  t.strictSame([order, waitingCount(), isIdle()], [[], 3, false])
  first.end()
  await Promise.all(all.slice(2))
  t.strictSame([order, waitingCount()], [[1, 2, 3], 0])
  second.end()
  await Promise.all(all)
  t.equal(isIdle(), true)
})

t.test('failed work gives its place to the next one, and its error to its caller', async (t) => {
  const { run } = line(1)
  const first = job()
  const failed = t.rejects(run(late, first.work), new Error('failed'))
  const next = run(late, async () => 'next')

  first.end(new Error('failed'))
  await failed
  t.equal(await next, 'next')
})

t.test('work without a turn at its deadline gives up and does not run later', async (t) => {
  const { run, waitingCount } = line(1)
  const first = job()
  const running = run(late, first.work)
  await t.rejects(run(soon, async () => t.fail('it ran')), new NoTurn())
  t.equal(waitingCount(), 0)

  first.end()
  await running
  t.equal(await run(soon, async () => 'next'), 'next')
})

t.test('work of one key takes turns, and other keys do not wait for it', async (t) => {
  const inTurn = turns()
  const first = job()
  const running = inTurn(1, late, first.work)
  let isOver = false
  const second = inTurn(1, late, async () => { isOver = true })

  t.equal(await inTurn(2, soon, async () => 'other'), 'other')
  t.equal(isOver, false)
  first.end()
  await Promise.all([running, second])
  t.equal(isOver, true)
})
