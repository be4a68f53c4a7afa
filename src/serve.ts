import type { AddressInfo } from 'node:net'
import closeWithGrace from 'close-with-grace'
import type { FastifyInstance } from 'fastify'
import { buildApp, type Overrides } from './app.js'
import { ConfigError, type Config } from './config.js'

/** Longest time a close may take, in milliseconds, before the process ends all the same. */
const closeDelayMs = 10_000

const stopSignals = ['SIGINT', 'SIGTERM'] as const

/** Ends the process with one line for each thing that is wrong. */
export function fail (...lines: string[]): never {
  for (const line of lines) process.stderr.write(`phone-auth: ${line}\n`)
  process.exit(1)
}

/** What to say of an error at the start: its problems, or one line that names the cause. */
export function explain (error: unknown): string[] {
  if (error instanceof ConfigError) return error.problems
  const { code, message } = error as NodeJS.ErrnoException
  return [code === 'EADDRINUSE' ? 'the port is in use, set PORT to another one' : message.replace(/\n.*/s, '')]
}

/** Builds the service, listens, and closes it on SIGTERM and SIGINT once everything in flight is answered. */
export async function serve (config: Config, overrides: Overrides = {}, onClosed = async () => {}): Promise<{ app: FastifyInstance, port: number }> {
  const app = await buildApp(config, overrides)
  const { close } = closeWithGrace({ delay: closeDelayMs, logger: false, skip: [...stopSignals] }, async ({ err }) => {
    if (err) app.log.fatal({ event: 'crash', err }, 'ends after an error that nobody caught')
    // A connection that is in use now is not kept for a next request, or the close would wait for that.
    app.server.keepAliveTimeout = 1
    await app.close()
    await onClosed()
  })
  // npm passes on the Ctrl-C that came here as well: a second signal is no reason to drop what is in flight.
  let isClosing = false
  for (const signal of stopSignals) {
    process.on(signal, () => {
      if (!isClosing) close()
      isClosing = true
    })
  }
  await app.listen({ host: config.host, port: config.port })
  return { app, port: (app.server.address() as AddressInfo).port }
}
