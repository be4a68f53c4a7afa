import { performance } from 'node:perf_hooks'

/** Repeats `work` for `seconds`, with a fixed number of runs at once. */
export async function loop ({ connections, seconds }: { connections: number, seconds: number }, work: () => Promise<unknown>) {
  const start = performance.now()
  const end = start + seconds * 1000
  let count = 0
  await Promise.all(Array.from({ length: connections }, async () => {
    for (; performance.now() < end; count++) await work()
  }))
  return { count, perSecond: count * 1000 / (performance.now() - start) }
}
