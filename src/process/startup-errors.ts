import { ConfigError } from '../config/index.js'
import { WrongShape } from '../db/users-shape.js'

/** Writes each line to standard error and ends the process with exit code 1. */
export function fail (...lines: string[]): never {
  for (const line of lines) process.stderr.write(`phone-auth: ${line}\n`)
  process.exit(1)
}

/** The lines that explain an error at start: its issues, or one line with the cause. */
export function explain (error: unknown): string[] {
  if (error instanceof ConfigError || error instanceof WrongShape) return error.issues
  const { code, message } = error as NodeJS.ErrnoException
  return [code === 'EADDRINUSE' ? 'the port is in use, set PORT to another one' : message.replace(/\n.*/s, '')]
}
