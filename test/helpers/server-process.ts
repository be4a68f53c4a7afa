import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { readFileSync } from 'node:fs'
import { createServer } from 'node:http'
import type { AddressInfo } from 'node:net'
import { resolve } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import type { Test } from 'tap'
import type { SmsMessage } from '../../src/messages/index.js'

interface ProcessOptions {
  /** Overrides the environment of the tests, which coverage needs; undefined removes a variable. */
  env?: Record<string, string | undefined>
  cwd?: string
  /** Runs in a process group of its own, as under a shell. */
  isGroup?: boolean
}

export type ServiceProcess = ReturnType<typeof startProcess>

/** What is to be run in build/src; the last two are the bundle that npm run build makes of the server. */
type Entry = 'server' | 'migrate' | 'doctor' | 'dev' | 'dev/write-openapi' | '../../dist/server' | 'npm start'

/** Starts build/src/`entry`.js. At the end of the test SIGTERM ends a process that still runs. */
export function startProcess (t: Test, entry: Entry, { env, cwd, isGroup = false }: ProcessOptions = {}) {
  const [command, args] = entry === 'npm start'
    ? ['npm', ['start']]
    : [process.execPath, [resolve('build/src', `${entry}.js`)]]
  const child = spawn(command, args, {
    env: { ...process.env, ...env },
    stdio: ['ignore', 'pipe', 'pipe'],
    detached: isGroup,
    ...(cwd && { cwd })
  })
  let stdout = ''
  let stderr = ''
  child.stdout.setEncoding('utf8').on('data', (text: string) => { stdout += text })
  child.stderr.setEncoding('utf8').on('data', (text: string) => { stderr += text })
  const closed = once(child, 'close')
    .then(([code, signal]) => ({ code: code as number | null, signal: signal as string | null, stdout, stderr }))
  const stop = async () => {
    child.kill('SIGTERM')
    return (await closed).code
  }
  t.teardown(stop)
  const pid = child.pid as number
  return {
    pid,
    get stdout () { return stdout },
    /** Resolves with the exit code, the signal and the output. */
    closed,
    /** Waits until standard output shows `pattern`. Throws with the whole output if the process ends before. */
    async shows (pattern: RegExp): Promise<RegExpExecArray> {
      for (;;) {
        const found = pattern.exec(stdout)
        if (found) return found
        const isOver = await Promise.race([closed.then(() => true), once(child.stdout, 'data').then(() => false)])
        if (isOver && !pattern.test(stdout)) throw new Error(`ended without ${String(pattern)}:\n${stdout}${stderr}`)
      }
    },
    /** Sends a signal; if `isGroup`, to the whole process group, as a terminal does. */
    kill: (signal: NodeJS.Signals) => process.kill(isGroup ? -pid : pid, signal),
    /** Repeats SIGTERM until the process ends: a signal at least one second after the first one aborts the drain. */
    async abortDrain () {
      let isOver = false
      closed.then(() => { isOver = true })
      await until(() => isOver || (child.kill('SIGTERM'), isOver))
      return await closed
    },
    /** Ends the process by SIGTERM and returns its exit code. */
    stop
  }
}

/** The lines of a JSON log. */
export const logLines = (text: string) => text.split('\n').filter((line) => line.startsWith('{'))
  .map((line) => JSON.parse(line) as Record<string, unknown>)

/** Waits for the URL that a server in production writes to its log. */
export const listening = async (server: ServiceProcess) =>
  (await server.shows(/Server listening at (http:\/\/127\.0\.0\.1:\d+)/))[1] as string

/** Starts the server and waits until it listens. */
export async function startService (t: Test, env: Record<string, string>, entry: Entry = 'server') {
  const server = startProcess(t, entry, { env })
  return Object.assign(server, { url: await listening(server) })
}

/** Starts an SMS provider that accepts and records messages. */
export async function smsWebhook (t: Test) {
  const sms: SmsMessage[] = []
  const server = createServer(async (request, response) => {
    const body = await request.setEncoding('utf8').toArray() as string[]
    sms.push(JSON.parse(body.join('')) as SmsMessage)
    response.end()
  }).listen(0, '127.0.0.1')
  await once(server, 'listening')
  t.teardown(() => server.close())
  return { url: `http://127.0.0.1:${(server.address() as AddressInfo).port}/`, sms }
}

/** Whether a process runs. A zombie does not. */
export function isRunning (pid: number) {
  try {
    return !/\) [ZX] /.test(readFileSync(`/proc/${pid}/stat`, 'utf8'))
  } catch {
    return false
  }
}

/** Waits until a condition outside the test holds. Throws if it does not hold in time. */
export async function until (condition: () => boolean | Promise<boolean>, seconds = 30): Promise<void> {
  for (const end = Date.now() + seconds * 1000; !await condition(); await sleep(5)) {
    if (Date.now() > end) throw new Error(`the awaited condition does not hold after ${seconds} s`)
  }
}
