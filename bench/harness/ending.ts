const ends: Array<() => unknown> = []

/** Registers `end` for the end of the bench, last in, first out. */
export const atEnd = (end: () => unknown) => { ends.push(end) }

/** The number of registered ends: a point to which `endDownTo` returns. */
export const openEnds = () => ends.length

/** Runs the ends that were registered since there were `count` of them. */
export async function endDownTo (count: number) {
  while (ends.length > count) await ends.pop()?.()
}
