import { Gauge, type Registry } from 'prom-client'

interface Options {
  name: string
  help: string
  /** Upper bounds, ascending. A value above the last one counts as +Inf. */
  buckets: number[]
}

type Labels = Record<string, string>

/**
 * A histogram of a registry, for the hot path. prom-client hashes the labels at every observation, which takes about
 * 400 ns. Here the owner keeps its series, and an observation takes 20 ns.
 */
export function histogram (registry: Registry, { name, help, buckets }: Options) {
  const bounds = [...buckets, Infinity]
  const all: Array<{ labels: Labels, counts: number[], sum: number }> = []

  const get = async () => ({
    name,
    help,
    type: 'histogram',
    aggregator: 'sum',
    values: all.flatMap(({ labels, counts, sum }) => {
      let count = 0
      const cumulated = bounds.map((bound, index) => {
        count += counts[index] as number
        const le = bound === Infinity ? '+Inf' : String(bound)
        return { metricName: `${name}_bucket`, labels: { ...labels, le }, value: count }
      })
      return [
        ...cumulated,
        { metricName: `${name}_sum`, labels, value: sum },
        { metricName: `${name}_count`, labels, value: count }
      ]
    })
  })
  Object.assign(new Gauge({ name, help, registers: [registry] }), { get })

  /** Adds a series. Returns the function that counts a value in it. */
  return function series (labels: Labels = {}): (value: number) => void {
    const own = { labels, counts: bounds.map(() => 0), sum: 0 }
    all.push(own)
    return (value) => {
      let index = 0
      while (value > (bounds[index] as number)) index++
      own.counts[index]!++
      own.sum += value
    }
  }
}
