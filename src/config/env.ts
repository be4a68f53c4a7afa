import { readFileSync } from 'node:fs'
import type { Variable } from './variables.js'

/** A wrong environment. Each issue is a line that names its variable and never shows a secret value. */
export class ConfigError extends Error {
  readonly issues: string[]

  constructor (issues: string[]) {
    super(issues.join('\n'))
    this.issues = issues
  }
}

/** The variables that can be given as NAME_FILE: every secret and every URL, by the end of their names. */
const canBeFile = /(?:_URL|_SECRET|_KEY|_KEYS|_TOKEN|_PASSWORD)(?:_PREVIOUS)?$|^TEST_PHONES$/

export type EnvReader = ReturnType<typeof envReader>

/**
 * Reads the variables of `env` one by one. A wrong value adds a line to `issues`, and a placeholder of the right type
 * takes its place. A blank variable counts as unset; trailing line ends are removed. Every secret and every URL may be
 * in a file instead, whose path is in NAME_FILE.
 */
export function envReader (env: NodeJS.ProcessEnv) {
  const issues: string[] = []
  const cleaned = (value: string | undefined) => value?.trim() ? value.replace(/[\r\n]+$/, '') : undefined

  /** The content of the file that a variable names; undefined if the variable is not set or the file cannot be used. */
  function file (name: Variable | `${Variable}_FILE`): string | undefined {
    const path = cleaned(env[name])
    if (path === undefined) return undefined
    try {
      const content = cleaned(readFileSync(path, 'utf8'))
      if (content === undefined) issues.push(`${name} names an empty file: ${path}`)
      return content
    } catch (error) {
      const { code } = error as NodeJS.ErrnoException
      issues.push(`${name} names a file that cannot be read (${String(code)}): ${path}`)
      return undefined
    }
  }

  function text (name: Variable): string | undefined {
    const value = cleaned(env[name])
    if (!canBeFile.test(name) || cleaned(env[`${name}_FILE`]) === undefined) return value
    if (value === undefined) return file(`${name}_FILE`)
    issues.push(`${name} and ${name}_FILE are both set, set one of them`)
    return value
  }

  const choice = <T extends string>(name: Variable, values: readonly T[], fallback: T): T => {
    const value = text(name)
    const chosen = values.find((one) => one === value)
    if (value !== undefined && chosen === undefined) issues.push(`${name} must be one of ${values.join(', ')}`)
    return chosen ?? fallback
  }

  /** Whether a variable is set, be its value usable or not. */
  const isSet = (name: Variable) =>
    cleaned(env[name]) !== undefined || (canBeFile.test(name) && cleaned(env[`${name}_FILE`]) !== undefined)

  return {
    issues,
    text,
    file,
    choice,
    isSet,

    /** Adds an issue for each of these variables that is not set. */
    require (...names: Variable[]): void {
      for (const name of names) if (!isSet(name)) issues.push(`${name} is required`)
    },

    boolean: (name: Variable, fallback: boolean) =>
      choice(name, ['true', 'false'], fallback ? 'true' : 'false') === 'true',

    integer<Fallback extends number | undefined> (
      name: Variable, fallback: Fallback, min: number, max: number
    ): number | Fallback {
      const value = text(name)
      if (value === undefined) return fallback
      const number = Number(value)
      if (/^\d+$/.test(value) && number >= min && number <= max) return number
      issues.push(`${name} must be a whole number from ${min} to ${max}`)
      return fallback
    },

    list: (name: Variable) => (text(name) ?? '').split(',').map((item) => item.trim()).filter(Boolean),

    url (name: Variable, protocols: string[]): string | undefined {
      const value = text(name)
      if (value === undefined) return undefined
      if (URL.canParse(value) && protocols.includes(new URL(value).protocol)) return value
      const starts = protocols.map((protocol) => `${protocol}//`).join(' or ')
      issues.push(`${name} must be a URL that starts with ${starts}`)
      return undefined
    }
  }
}
