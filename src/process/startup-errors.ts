import { ConfigError } from '../config/index.js'
import { WrongShape } from '../db/users-shape.js'

/** Ends the process with one line for each thing that is wrong. */
export function fail (...lines: string[]): never {
  for (const line of lines) process.stderr.write(`phone-auth: ${line}\n`)
  process.exit(1)
}

/** What to say of an error at the start: its issues, or one line that names the cause. */
export function explain (error: unknown): string[] {
  if (error instanceof ConfigError) return error.issues
  if (error instanceof WrongShape) return error.problems
  const { code, message } = error as NodeJS.ErrnoException
  return [code === 'EADDRINUSE' ? 'the port is in use, set PORT to another one' : message.replace(/\n.*/s, '')]
}
