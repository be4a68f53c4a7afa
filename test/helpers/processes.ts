import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { createServer } from 'node:http'
import type { AddressInfo } from 'node:net'
import { createInterface } from 'node:readline'
import { setTimeout as sleep } from 'node:timers/promises'
import { fileURLToPath } from 'node:url'
import type { Test } from 'tap'
import type { SmsMessage } from '../../src/auth/sms/index.js'

const server = fileURLToPath(new URL('../../src/server.js', import.meta.url))

/** Waits until something outside of the test has come about; throws where it does not in time. */
export async function until (condition: () => boolean | Promise<boolean>, seconds = 10): Promise<void> {
  for (const end = Date.now() + seconds * 1000; !await condition(); await sleep(5)) {
    if (Date.now() > end) throw new Error('what the test waits for does not come about')
  }
}

export type ServiceProcess = Awaited<ReturnType<typeof startProcess>>

/**
 * The compiled service as a process of its own, once it listens; ended by SIGTERM at the latest with the test.
 * The environment of the test goes along, or what the process ran would not count as covered.
 */
export async function startProcess (t: Test, env: Record<string, string>) {
  const child = spawn(process.execPath, [server], {
    env: { ...process.env, METRICS_PORT: '0', DRAIN_SECONDS: '0', ...env },
    stdio: ['ignore', 'pipe', 'pipe']
  })
  const exited = once(child, 'exit') as Promise<[number | null, NodeJS.Signals | null]>
  const log: string[] = []
  createInterface({ input: child.stderr }).on('line', (line) => { log.push(line) })
  const url = new Promise<string>((resolve) => {
    createInterface({ input: child.stdout }).on('line', (line) => {
      log.push(line)
      const listening = /http:\/\/127\.0\.0\.1:\d+/.exec(line)
      if (listening) resolve(listening[0])
    })
  })
  const stop = async () => {
    child.kill('SIGTERM')
    const [code] = await exited
    return code
  }
  t.teardown(stop)
  const ended = exited.then(() => { throw new Error(`the process ended before it listened: ${log.join('\n')}`) })
  return { url: await Promise.race([url, ended]), log, stop }
}

/** Takes the messages of SMS_PROVIDER=webhook, over HTTP. */
export async function smsReceiver (t: Test) {
  const messages: SmsMessage[] = []
  const receiver = createServer((request, response) => {
    const chunks: Buffer[] = []
    request.on('data', (chunk: Buffer) => { chunks.push(chunk) })
    request.on('end', () => {
      messages.push(JSON.parse(Buffer.concat(chunks).toString()) as SmsMessage)
      response.end()
    })
  }).listen(0, '127.0.0.1')
  await once(receiver, 'listening')
  t.teardown(() => {
    receiver.closeAllConnections()
    receiver.close()
  })
  return { url: `http://127.0.0.1:${(receiver.address() as AddressInfo).port}/`, messages }
}
