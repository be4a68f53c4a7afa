import { addresses } from './addresses.js'
import { footprint } from './footprint.js'
import { growth } from './growth.js'
import { guard } from './guard.js'
import { endDownTo } from './harness/ending.js'
import { startStores, type Stores } from './harness/stores.js'
import { printTable, writeResults, type Row } from './harness/table.js'
import { login } from './login.js'
import { peer } from './peer.js'
import { workers } from './workers.js'

/* npm run bench: all benches in turn, or only the named ones: npm run bench -- guard */
const benches: Record<string, (stores: Stores) => Promise<Row[]>> = {
  guard, peer, addresses, login, growth, footprint, workers
}

const names = process.argv.length > 2 ? process.argv.slice(2) : Object.keys(benches)
const unknown = names.filter((name) => !Object.hasOwn(benches, name))
if (unknown.length > 0) {
  process.stderr.write(`there is no bench ${unknown.join(', ')}: ${Object.keys(benches).join(', ')}\n`)
  process.exit(1)
}

async function run () {
  const results: Record<string, Row[]> = {}
  for (const name of names) {
    results[name] = await (benches[name] as (typeof benches)[string])(await startStores())
    await endDownTo(0)
    printTable(name, results[name])
  }
  writeResults(results)
}

const stopped = new Promise<never>((_resolve, reject) => {
  for (const signal of ['SIGINT', 'SIGTERM']) process.once(signal, () => reject(new Error(`stopped by ${signal}`)))
})
try {
  await Promise.race([run(), stopped])
} catch (error) {
  process.stderr.write(`${(error as Error).stack}\n`)
  process.exitCode = 1
}
await endDownTo(0)
process.exit()
