const ends: Array<() => unknown> = []

/** Has `end` called at the end, last in, first out. */
export const atEnd = (end: () => unknown) => { ends.push(end) }

/** How many things are to be ended: a point to come back to by `endDownTo`. */
export const openEnds = () => ends.length

/** Ends what was begun since there were `count` things to end. */
export async function endDownTo (count: number) {
  while (ends.length > count) await ends.pop()?.()
}
