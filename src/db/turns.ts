/** No turn came in time. */
export class NoTurn extends Error {
  constructor () { super('too much work is ahead of this') }
}

type Line = ReturnType<typeof line>

/** At most `max` pieces of work run at once; further ones wait in the order in which they came. */
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
    /** Runs `work` once there is a place for it. Throws NoTurn if there is none within `maxWaitMs`. */
    async run<T> (maxWaitMs: number, work: () => Promise<T>): Promise<T> {
      if (running < max) running++
      else await place(maxWaitMs)
      try {
        return await work()
      } finally {
        // The place goes to the next one directly: nobody who comes meanwhile can take it.
        const [takeNext] = waiting
        if (takeNext) takeNext()
        else running--
      }
    }
  }
}

/** A line for each key, in which one piece of work runs at a time. Keys do not wait for each other. */
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
