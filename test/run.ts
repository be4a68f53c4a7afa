import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { createReadStream, existsSync, symlinkSync } from 'node:fs'
import { createRequire } from 'node:module'
import { dirname, join } from 'node:path'
import pg from 'pg'
import { Parser, type Result } from 'tap-parser'
import { migrate } from '../src/db/migrate.js'
import { startRedis, startTestPostgres, temporaryFolder } from './helpers/servers.js'

/*
 * npm test: starts PostgreSQL and Redis, runs tap over the compiled tests, and prints the counts of the run. Arguments
 * go to tap: npm test -- build/test/phone/markets.test.js
 */
const output = 'build/tap.txt'
const isTerminal = process.stdout.isTTY
for (const folder of ['drizzle', 'playground']) {
  if (!existsSync(`build/${folder}`)) symlinkSync(`../${folder}`, `build/${folder}`)
}

/**
 * Counts the passed assertions of a TAP file, those of subtests included, and returns the failed ones. A test that
 * fails without a failed assertion, for example by its timeout, is a failure, too.
 */
async function counts (file: string) {
  let passed = 0
  const failures: Result[] = []
  const watch = (parser: Parser) => {
    let before: number | undefined
    parser.on('child', (child) => { before = failures.length; watch(child) })
    parser.on('assert', (result) => {
      const isParent = before !== undefined
      if (!result.ok && (!isParent || before === failures.length)) failures.push(result)
      if (result.ok && !isParent) passed++
      before = undefined
    })
  }
  const parser = new Parser()
  watch(parser)
  createReadStream(file).pipe(parser)
  await once(parser, 'complete')
  return { passed, failures }
}

/** The steps that clean up after the run, in reverse order. */
const undo: Array<() => Promise<void>> = []
const interrupted = new AbortController()
for (const signal of ['SIGINT', 'SIGTERM', 'SIGHUP']) process.on(signal, () => interrupted.abort())

/** Runs tap against running stores. Returns whether all tests passed. */
async function runTap (stores: { TEST_POSTGRES_URL: string, TEST_REDIS_URL: string }) {
  const tap = spawn(process.execPath, [
    join(dirname(createRequire(import.meta.url).resolve('tap/package.json')), 'dist/esm/run.mjs'), 'run',
    `--output-file=${output}`, `--reporter=${isTerminal ? 'base' : 'silent'}`, ...process.argv.slice(2)
  ], { stdio: 'inherit', env: { ...process.env, ...stores } })
  const stop = () => tap.kill('SIGTERM')
  if (interrupted.signal.aborted) stop()
  interrupted.signal.addEventListener('abort', stop)
  const [code] = await once(tap, 'exit') as [number | null]
  const { passed, failures } = await counts(output)
  // The reporters of tap print nothing if CI is set.
  if (!isTerminal) for (const { fullname, diag } of failures) console.log(`FAILED ${fullname}`, diag)
  process.stdout.write(`${passed} passed, ${failures.length} failed\n`)
  return code === 0 && failures.length === 0 && passed > 0
}

process.exitCode = 1
try {
  // The tests create their folders in this one, so that a killed test leaves nothing behind.
  const temporary = await temporaryFolder()
  undo.push(temporary.remove)
  process.env.TMPDIR = temporary.path
  const redis = await startRedis()
  undo.push(redis.stop)
  const postgres = await startTestPostgres()
  undo.push(postgres.remove)
  // Each test copies its database from this one.
  const admin = new pg.Client({ connectionString: postgres.url })
  await admin.connect()
  await admin.query('CREATE DATABASE migrated')
  await admin.end()
  await migrate(postgres.url.replace(/postgres$/, 'migrated'))
  if (await runTap({ TEST_POSTGRES_URL: postgres.url, TEST_REDIS_URL: redis.url })) process.exitCode = 0
} catch (error) {
  process.stderr.write(`npm test: ${(error as Error).message}\n`)
} finally {
  for (const step of undo.reverse()) await step()
}
