/** The work did not get its turn in time. */
export class NoTurn extends Error {
  constructor () { super('too much work is ahead of this') }
}

type Line = ReturnType<typeof line>

/** Runs at most `max` pieces of work at once; further ones wait in order of arrival. */
export function line (max: number) {
  const waiting = new Set<() => void>()
  let running = 0

  const place = (maxWaitMs: number) => new Promise<void>((resolve, reject) => {
    const take = () => {
      waiting.delete(take)
      clearTimeout(timer)
      resolve()
    }
    const timer = setTimeout(() => {
      waiting.delete(take)
      reject(new NoTurn())
    }, maxWaitMs)
    waiting.add(take)
  })

  return {
    isIdle: () => running === 0,
    waitingCount: () => waiting.size,
    /** Runs `work` as soon as a place is free. Throws NoTurn if none is free within `maxWaitMs` milliseconds. */
    async run<T> (maxWaitMs: number, work: () => Promise<T>): Promise<T> {
      if (running < max) running++
      else await place(maxWaitMs)
      try {
        return await work()
      } finally {
        // Hand the place to the next one directly, so that no newcomer can take it.
        const [takeNext] = waiting
        if (takeNext) takeNext()
        else running--
      }
    }
  }
}

/** Runs the work of each key one at a time. Different keys do not wait for each other. */
export function turns () {
  const lines = new Map<number, Line>()

  return async function inTurn<T> (key: number, maxWaitMs: number, work: () => Promise<T>): Promise<T> {
    const own = lines.get(key) ?? line(1)
    lines.set(key, own)
    try {
      return await own.run(maxWaitMs, work)
    } finally {
      if (own.isIdle()) lines.delete(key)
    }
  }
}
