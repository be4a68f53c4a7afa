import type { EnvReader } from './env.js'
import type { Variable } from './variables.js'

/** The value that .env.example carries, known to everybody. */
export const exampleJwtSecret = 'replace-me-with-at-least-32-random-bytes'

const minKeyBytes = 32
/** A key of fewer different bytes was typed, not generated: 32 random hexadecimal digits almost surely have more. */
const minDifferentBytes = 8

/** The value without the quotes that a shell removes and `docker --env-file` keeps. */
const unquoted = (value: string) => value.trim().replace(/^(["'])(.*)\1$/s, '$2')

/** What makes a key too weak for production, as the end of a sentence that begins with its name. */
function keyIssue (value: string): string | undefined {
  const advice = 'make one of your own: openssl rand -base64 32'
  if (unquoted(value) === exampleJwtSecret) return `is the value of .env.example, ${advice}`
  if (Buffer.byteLength(value) < minKeyBytes) return `must have at least ${minKeyBytes} bytes, ${advice}`
  return new Set(Buffer.from(value)).size < minDifferentBytes
    ? `must have at least ${minDifferentBytes} different bytes, ${advice}`
    : undefined
}

/** A key of HMACs. In production a key that is too weak is an issue. */
export function readKey (env: EnvReader, name: Variable, isProduction: boolean): string | undefined {
  const value = env.text(name)
  const issue = value !== undefined && isProduction ? keyIssue(value) : undefined
  if (issue) env.issues.push(`${name} ${issue}`)
  return value
}
