import { mkdirSync, writeFileSync } from 'node:fs'
import { cpus } from 'node:os'

export interface Row {
  name: string
  unit: string
  /** The target. */
  bar: string
  a: number[]
  b: number[]
  /** The median of A ÷ B, or of A if there is no B. */
  figure: number
  /** The lowest and the highest value. */
  spread: [number, number]
}

function median (values: number[]) {
  const sorted = values.toSorted((a, b) => a - b)
  const middle = sorted.length / 2
  return ((sorted[Math.ceil(middle) - 1] as number) + (sorted[Math.floor(middle)] as number)) / 2
}

const spread = (values: number[]): [number, number] => [Math.min(...values), Math.max(...values)]

/** A row of the table: A and B, which ran in turn, and the ratio of each A to the B of the same round. */
export function ratio (name: string, unit: string, bar: string, a: number[], b: number[]): Row {
  const ratios = a.map((value, turn) => value / (b[turn] as number))
  return { name, unit, bar, a, b, figure: median(ratios), spread: spread(ratios) }
}

/** A row without a comparison. */
export const figure = (name: string, unit: string, bar: string, a: number[]): Row =>
  ({ name, unit, bar, a, b: [], figure: median(a), spread: spread(a) })

const digits = (value: number) => value.toLocaleString('en', { maximumSignificantDigits: Math.max(3, Math.ceil(Math.log10(value + 1))) })

function cells ({ name, unit, bar, a, b, figure, spread }: Row) {
  const isRatio = b.length > 0
  return [
    name, `${digits(median(a))} ${unit}`, isRatio ? `${digits(median(b))} ${unit}` : '', isRatio ? figure.toFixed(2) : '',
    a.length > 1 ? spread.map((value) => isRatio ? value.toFixed(2) : digits(value)).join(' – ') : '', bar
  ]
}

/** Prints the rows of a bench as a table. */
export function printTable (bench: string, rows: Row[]) {
  const lines = [[bench, 'A', 'B', 'A ÷ B', 'spread', 'asked for'], ...rows.map(cells)]
  const widths = (lines[0] as string[]).map((_, column) => Math.max(...lines.map((line) => (line[column] as string).length)))
  for (const line of lines) {
    const padded = line.map((cell, column) => column === 0 ? cell.padEnd(widths[0] as number) : cell.padStart(widths[column] as number))
    process.stdout.write(`${padded.join('   ').trimEnd()}\n`)
  }
  process.stdout.write('\n')
}

/** Writes all figures, those of each round included, to bench/results/. */
export function writeResults (results: Record<string, Row[]>) {
  const date = new Date().toISOString()
  mkdirSync('bench/results', { recursive: true })
  const file = `bench/results/${date.replace(/[:.]/g, '-')}.json`
  writeFileSync(file, JSON.stringify({ date, node: process.version, cpus: cpus().map(({ model }) => model), results }, null, 2))
  process.stdout.write(`also in ${file}\n`)
}
