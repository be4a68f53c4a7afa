import type { AddressInfo } from 'node:net'
import closeWithGrace from 'close-with-grace'
import type { FastifyInstance } from 'fastify'
import { buildApp, type Overrides } from './app.js'
import { ConfigError, type Config } from './config.js'

/** Longest time a close may take, in milliseconds, before the process ends all the same. */
const closeDelayMs = 10_000

/** Ends the process with one line for each thing that is wrong. */
export function fail (...lines: string[]): never {
  for (const line of lines) process.stderr.write(`phone-auth: ${line}\n`)
  process.exit(1)
}

/** What to say of an error at the start: its problems, or one line that names the cause. */
export function explain (error: unknown): string[] {
  if (error instanceof ConfigError) return error.problems
  const { code, message } = error as NodeJS.ErrnoException
  return [code === 'EADDRINUSE' ? 'the port is in use, set PORT to another one' : (message.split('\n')[0] ?? '')]
}

/** Builds the service, listens, and closes it on SIGTERM and SIGINT once everything in flight is answered. */
export async function serve (config: Config, overrides: Overrides = {}, onClosed = async () => {}): Promise<{ app: FastifyInstance, port: number }> {
  const app = await buildApp(config, overrides)
  closeWithGrace({ delay: closeDelayMs, logger: false }, async ({ err }) => {
    if (err) app.log.fatal({ event: 'crash', err })
    await app.close()
    await onClosed()
  })
  await app.listen({ host: config.host, port: config.port })
  return { app, port: (app.server.address() as AddressInfo).port }
}
