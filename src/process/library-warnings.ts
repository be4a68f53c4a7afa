import type { FastifyBaseLogger } from 'fastify'

/**
 * Captures the console and the process warnings, because ioredis writes to the console, pg emits warnings, and neither
 * is a line of JSON. Returns the function that sends them to a log; until that is called they are kept.
 */
export function catchLibraryWarnings () {
  const early: string[] = []
  let keep = (text: string) => { early.push(text) }
  const warn = (...parts: unknown[]) => keep(parts.map(String).join(' '))
  Object.assign(console, { warn, error: warn })
  // Node's own listener writes to standard error.
  process.removeAllListeners('warning')
  process.on('warning', ({ name, message }) => warn(`${name}: ${message}`))

  return function sendTo (log: FastifyBaseLogger) {
    keep = (text) => log.warn({ event: 'library_warning' }, text)
    early.forEach(keep)
  }
}
