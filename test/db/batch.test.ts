import { setImmediate as turn } from 'node:timers/promises'
import t, { type Test } from 'tap'
import { batched } from '../../src/db/batch.js'

/** A lookup whose statements end when the test calls `ends`. `asked` holds the ids of each statement. */
function lookup ({ max = 1000, connections = 10 } = {}) {
  const asked: number[][] = []
  const ends: Array<(error?: Error) => void> = []
  const find = batched(max, connections, (ids) => {
    asked.push(ids)
    return new Promise<Record<number, string>>((resolve, reject) => {
      ends.push((error) => error ? reject(error) : resolve(Object.fromEntries(ids.map((id) => [id, `found ${id}`]))))
    })
  })
  const ask = (id: number) => new Promise<string | undefined>((resolve, reject) => {
    find(id, (error, found) => error ? reject(error) : resolve(found))
  })
  /** Waits until `count` statements have started. */
  const statements = async (count: number) => { while (asked.length < count) await turn() }
  return { asked, ends, ask, find, statements }
}
const upTo = (count: number) => Array.from({ length: count }, (_, index) => index + 1)

interface Timer { run: () => void, ms: number }

/**
 * Holds back every timer that is set during the test. Returns the function that lets milliseconds pass and returns how
 * many timers ran.
 */
function holdTimers (t: Test) {
  const held = new Set<Timer>()
  const set = (run: () => void, ms: number) => {
    const timer = { run, ms }
    held.add(timer)
    return timer
  }
  t.intercept(globalThis, 'setTimeout', { value: Object.assign(set, setTimeout) })
  t.intercept(globalThis, 'clearTimeout', { value: (timer: Timer) => held.delete(timer) })
  return (passed: number) => {
    const due = [...held].filter(({ ms }) => ms <= passed)
    for (const { run } of due) run()
    return due.length
  }
}

t.test('lookups of the following turns wait until the statement in flight ends', async (t) => {
  const pass = holdTimers(t)
  const { asked, ends, ask, statements } = lookup()
  const asks = [ask(1)]
  await statements(1)
  for (const id of [2, 3]) {
    asks.push(ask(id))
    await turn()
  }
  ends[0]?.()
  await statements(2)
  t.strictSame(asked, [[1], [2, 3]])
  t.equal(pass(1), 0, 'no timer is left')
  ends[1]?.()
  t.strictSame(await Promise.all(asks), ['found 1', 'found 2', 'found 3'])
})

t.test('the next batch waits until the previous one is delivered, and includes lookups made meanwhile', async (t) => {
  holdTimers(t)
  const { asked, ends, ask, find, statements } = lookup()
  let delivered = 0
  for (const id of upTo(20)) find(id, () => { delivered++ })
  await statements(1)
  const next = ask(21)
  await turn()
  ends[0]?.()
  await turn()
  t.strictSame([delivered, asked.length], [16, 1])
  await statements(2)
  t.strictSame([delivered, asked[1]], [20, [21]])
  ends[1]?.()
  t.equal(await next, 'found 21')
})

t.test('lookups wait for at most one millisecond, or until there are 32', async (t) => {
  const pass = holdTimers(t)
  const { asked, ends, ask, statements } = lookup()
  const asks = [ask(0)]
  await statements(1)
  asks.push(ask(1))
  await turn()
  pass(1)
  t.strictSame(asked, [[0], [1]])
  asks.push(ask(0))
  await turn()
  asks.push(...upTo(31).map(ask))
  t.strictSame(asked.slice(2), [[0, ...upTo(31)]])
  for (const end of ends) end()
  await Promise.all(asks)
})

t.test('32 or more lookups of one turn do not wait', async (t) => {
  holdTimers(t)
  const { asked, ends, ask, statements } = lookup()
  const asks = [ask(0)]
  await statements(1)
  asks.push(...upTo(33).map(ask))
  await statements(2)
  t.strictSame(asked, [[0], upTo(33)])
  for (const end of ends) end()
  await Promise.all(asks)
})

t.test('lookups gather until a statement ends while all connections are busy', async (t) => {
  const pass = holdTimers(t)
  const { asked, ends, ask, statements } = lookup({ connections: 1 })
  const asks = [ask(0)]
  await statements(1)
  for (const ids of [upTo(33), upTo(66).slice(33)]) {
    asks.push(...ids.map(ask))
    await turn()
  }

  t.equal(pass(99), 0)
  t.strictSame(asked, [[0]])
  ends[0]?.()
  await statements(2)
  t.strictSame(asked[1], upTo(66))
  ends[1]?.()
  await Promise.all(asks)
})

t.test('lookups wait at most 100 ms for a connection that does not respond', async (t) => {
  const pass = holdTimers(t)
  const { asked, ends, ask, statements } = lookup({ connections: 1 })
  const asks = [ask(0)]
  await statements(1)
  asks.push(ask(1))
  await turn()

  t.equal(pass(100), 1)
  t.strictSame(asked, [[0], [1]])
  for (const end of ends) end()
  await Promise.all(asks)
})

t.test('a statement that fails affects neither another one nor the next lookup', async (t) => {
  const { asked, ends, ask, statements } = lookup({ max: 2 })
  const asks = [1, 2, 3, 2].map(ask)
  const settled = Promise.allSettled(asks)
  await statements(2)
  t.strictSame(asked, [[1, 2], [3, 2]])
  ends[0]?.(new Error('unavailable'))
  ends[1]?.()
  t.strictSame((await settled).map(({ status }) => status), ['rejected', 'rejected', 'fulfilled', 'fulfilled'])
  const again = ask(1)
  await statements(3)
  ends[2]?.()
  t.equal(await again, 'found 1')
})

t.test('sixteen results of a statement are delivered in one turn', async (t) => {
  const { ends, find, statements } = lookup()
  const turns: number[] = []
  let inTurn = 0
  for (const id of upTo(40)) {
    find(id, () => {
      if (inTurn++ > 0) return
      setImmediate(() => {
        turns.push(inTurn)
        inTurn = 0
      })
    })
  }
  await statements(1)
  ends[0]?.()
  while (turns.length < 3) await turn()
  t.strictSame(turns, [16, 16, 8])
})
