import { setImmediate as turn } from 'node:timers/promises'
import t from 'tap'
import { batched } from '../src/batch.js'

/** A lookup whose statements end when they are told to; `asked` has the ids of each. */
function lookup (max = 1000) {
  const asked: number[][] = []
  const ends: Array<(error?: Error) => void> = []
  const find = batched(max, (ids) => {
    asked.push(ids)
    return new Promise<Record<number, string>>((resolve, reject) => {
      ends.push((error) => error ? reject(error) : resolve(Object.fromEntries(ids.map((id) => [id, `found ${id}`]))))
    })
  })
  const ask = (id: number) => new Promise<string | undefined>((resolve, reject) => {
    find(id, (error, found) => error ? reject(error) : resolve(found))
  })
  /** Waits for so many statements to be under way. */
  const statements = async (count: number) => { while (asked.length < count) await turn() }
  return { asked, ends, ask, find, statements }
}
const upTo = (count: number) => Array.from({ length: count }, (_, index) => index + 1)

t.test('while a statement is under way, a few more wait for those of the turns that follow', async (t) => {
  const { asked, ends, ask, statements } = lookup()
  const first = ask(1)
  await statements(1)
  const second = ask(2)
  await turn()
  const third = ask(3)
  await statements(2)
  t.strictSame(asked, [[1], [2, 3]])
  for (const end of ends) end()
  t.strictSame(await Promise.all([first, second, third]), ['found 1', 'found 2', 'found 3'])
})

t.test('they are asked about as soon as it has ended', async (t) => {
  const { asked, ends, ask, statements } = lookup()
  const first = ask(1)
  await statements(1)
  const second = ask(2)
  ends[0]?.()
  await first
  await turn()
  t.strictSame(asked, [[1], [2]])
  ends[1]?.()
  await second
})

t.test('many do not wait', async (t) => {
  const { asked, ends, ask, statements } = lookup()
  const asks = [ask(0)]
  await statements(1)
  asks.push(...upTo(32).map(ask))
  await turn()
  asks.push(ask(33))
  await statements(3)
  t.strictSame(asked, [[0], upTo(32), [33]])
  for (const end of ends) end()
  await Promise.all(asks)
})

t.test('one statement fails, the other does not, and the next lookup has a new one', async (t) => {
  const { asked, ends, ask, statements } = lookup(2)
  const asks = [1, 2, 3, 2].map(ask)
  const settled = Promise.allSettled(asks)
  await statements(2)
  t.strictSame(asked, [[1, 2], [3, 2]])
  ends[0]?.(new Error('away'))
  ends[1]?.()
  t.strictSame((await settled).map(({ status }) => status), ['rejected', 'rejected', 'fulfilled', 'fulfilled'])
  const again = ask(1)
  await statements(3)
  ends[2]?.()
  t.equal(await again, 'found 1')
})

t.test('of the answers of a statement sixteen are given in one turn', async (t) => {
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
