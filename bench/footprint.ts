import { execFileSync, type ChildProcess } from 'node:child_process'
import { performance } from 'node:perf_hooks'
import { setTimeout as sleep } from 'node:timers/promises'
import { fileURLToPath } from 'node:url'
import { endDownTo, openEnds } from './harness/ending.js'
import { startLoad } from './harness/load.js'
import { rounds } from './harness/measure.js'
import { packagesOf, productionPackages } from './harness/packages.js'
import { serviceProgram, startUp, type Program } from './harness/programs.js'
import { usersSeeded, type Stores } from './harness/stores.js'
import { ratio, type Row } from './harness/table.js'

const connections = 256
const loadSeconds = 60
/** The last part of the load, in which the memory should not grow. */
const watchedMs = 30_000
const idleMs = 2000

/** The resident memory of a process in MiB. */
const rss = ({ pid }: ChildProcess) => Number(execFileSync('ps', ['-o', 'rss=', '-p', String(pid)])) / 1024

/** The costs of a process: start, memory and packages, each compared with a hello-world of Fastify. */
export async function footprint (stores: Stores): Promise<Row[]> {
  const seeded = await stores.seed(usersSeeded)
  const service = { ...serviceProgram(seeded.env), loadPath: '/auth/verify-token' }
  const hello = { script: fileURLToPath(new URL('./servers/hello.js', import.meta.url)), readyPath: '/', loadPath: '/', env: {} }

  const starts = async (program: Program) => {
    const open = openEnds()
    const { ms } = await startUp(program)
    await endDownTo(open)
    return ms
  }
  const startMs: { ours: number[], theirs: number[] } = { ours: [], theirs: [] }
  for (let round = 0; round < rounds; round++) {
    startMs.ours.push(await starts(service))
    startMs.theirs.push(await starts(hello))
  }

  const memory = async (program: Program & { loadPath: string }) => {
    const open = openEnds()
    const load = await startLoad(program.loadPath, seeded, connections)
    const { child, port } = await startUp(program)
    await sleep(idleMs)
    const idle = rss(child)
    const underLoad = load({ port }, loadSeconds)
    await sleep(loadSeconds * 1000 - watchedMs)
    const watched: number[] = []
    for (const end = performance.now() + watchedMs; performance.now() < end; await sleep(1000)) watched.push(rss(child))
    await underLoad
    const after = rss(child)
    await endDownTo(open)
    const middle = watched.length / 2
    return { idle, after, earlier: watched.slice(0, middle), later: watched.slice(-middle) }
  }
  const ours = await memory(service)
  const theirs = await memory(hello)
  const packages = { ours: productionPackages(), theirs: packagesOf('fastify') }

  return [
    ratio('start to ready ÷ hello-world', 'ms', '≤ 4', startMs.ours, startMs.theirs),
    ratio('RSS idle ÷ hello-world', 'MiB', '', [ours.idle], [theirs.idle]),
    ratio('RSS after 60 s of 256 connections ÷ hello-world', 'MiB', '≤ 2.5', [ours.after], [theirs.after]),
    ratio('RSS in the last 15 s of it ÷ in the 15 s before', 'MiB', 'flat', ours.later, ours.earlier),
    ratio('production packages ÷ fastify alone', '', '', [packages.ours.count], [packages.theirs.count]),
    ratio('node_modules in production ÷ fastify alone', 'MiB', '', [packages.ours.mebibytes], [packages.theirs.mebibytes])
  ]
}
