import { spawn } from 'node:child_process'
import { once } from 'node:events'

/*
 * npm run test:full: runs the slow suites one after the other. The last line has the counts of all suites. The exit
 * code is not 0 if a suite failed.
 */
const suites = ['test:coverage', 'test:races', 'test:gateways', 'test:faults', 'test:browser', 'test:clients']

/** Runs one suite, forwards its output, and returns its counts. A suite that prints no counts has failed. */
async function run (suite: string) {
  const child = spawn('npm', ['run', suite], { stdio: ['ignore', 'pipe', 'inherit'] })
  let output = ''
  child.stdout.setEncoding('utf8').on('data', (text: string) => {
    output += text
    process.stdout.write(text)
  })
  const [code] = await once(child, 'close') as [number | null]
  const [, passed = 0, failed = 1] = /^(\d+) passed, (\d+) failed$/m.exec(output) ?? []
  return { passed: Number(passed), failed: Number(failed), hasFailed: code !== 0 }
}

const total = { passed: 0, failed: 0 }
for (const suite of suites) {
  const { passed, failed, hasFailed } = await run(suite)
  total.passed += passed
  total.failed += failed
  if (hasFailed) process.exitCode = 1
}
console.log(`${total.passed} passed, ${total.failed} failed`)
