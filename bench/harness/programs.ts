import { spawn } from 'node:child_process'
import { performance } from 'node:perf_hooks'
import { setTimeout as sleep } from 'node:timers/promises'
import { freePort } from '../../test/helpers/free-port.js'
import { endWith, type Env } from './children.js'

const pollMs = 2

/** A program as production starts it, with nothing but its environment. */
export interface Program { script: string, readyPath: string, env: Env }

export const serviceProgram = (env: Env): Program => ({ script: 'dist/server.js', readyPath: '/health/ready', env })

/**
 * Starts a program and waits for its first 200. Returns the time until then in milliseconds. Workers end with their
 * primary.
 */
export async function startUp ({ script, readyPath, env }: Program) {
  const port = await freePort()
  const metricsPort = await freePort()
  const start = performance.now()
  const child = spawn(process.execPath, [script], {
    stdio: ['ignore', 'ignore', 'inherit'],
    env: { PATH: process.env.PATH, NODE_ENV: 'production', ...env, PORT: String(port), METRICS_PORT: String(metricsPort) }
  })
  endWith(child)
  const isReady = () => fetch(`http://127.0.0.1:${port}${readyPath}`).then(({ ok }) => ok, () => false)
  while (!await isReady()) {
    if (child.exitCode !== null) throw new Error(`${script} ended with ${child.exitCode}`)
    await sleep(pollMs)
  }
  return { child, port, ms: performance.now() - start }
}
