import { readFileSync } from 'node:fs'

/** A wrong environment; `problems` names every variable at fault and never shows a secret value. */
export class ConfigError extends Error {
  readonly problems: string[]

  constructor (problems: string[]) {
    super(problems.join('\n'))
    this.problems = problems
  }
}

/** The variables that can be given as NAME_FILE: every secret and every URL, by the end of their names. */
const canBeFile = /(?:_URL|_SECRET|_KEY|_KEYS|_TOKEN|_PASSWORD)(?:_PREVIOUS)?$|^TEST_PHONES$/

export type EnvReader = ReturnType<typeof envReader>

/**
 * Reads one variable of `env` at a time and adds the issues to `problems`. A blank variable counts as unset; trailing line
 * ends are removed. Every secret and every URL may be in a file instead, whose path is in NAME_FILE.
 */
export function envReader (env: NodeJS.ProcessEnv, problems: string[]) {
  const cleaned = (value: string | undefined) => value?.trim() ? value.replace(/[\r\n]+$/, '') : undefined

  /** The content of the file that a variable names; undefined if the variable is not set or the file cannot be used. */
  function file (name: string): string | undefined {
    const path = cleaned(env[name])
    if (path === undefined) return undefined
    try {
      const content = cleaned(readFileSync(path, 'utf8'))
      if (content === undefined) problems.push(`${name} names an empty file: ${path}`)
      return content
    } catch (error) {
      const { code } = error as NodeJS.ErrnoException
      problems.push(`${name} names a file that cannot be read (${String(code)}): ${path}`)
      return undefined
    }
  }

  function text (name: string): string | undefined {
    const value = cleaned(env[name])
    if (!canBeFile.test(name) || cleaned(env[`${name}_FILE`]) === undefined) return value
    if (value === undefined) return file(`${name}_FILE`)
    problems.push(`${name} and ${name}_FILE are both set, set one of them`)
    return value
  }

  const choice = <T extends string>(name: string, values: readonly T[], fallback: T): T => {
    const value = text(name) ?? fallback
    if ((values as readonly string[]).includes(value)) return value as T
    problems.push(`${name} must be one of ${values.join(', ')}`)
    return fallback
  }

  return {
    text,
    file,
    choice,
    /** Whether a variable is set, be its value usable or not. */
    isSet: (name: string) =>
      cleaned(env[name]) !== undefined || (canBeFile.test(name) && cleaned(env[`${name}_FILE`]) !== undefined),

    boolean: (name: string, fallback: boolean) =>
      choice(name, ['true', 'false'], String(fallback) as 'true' | 'false') === 'true',

    integer<Fallback extends number | undefined> (
      name: string, fallback: Fallback, min: number, max: number
    ): number | Fallback {
      const value = text(name)
      if (value === undefined) return fallback
      const number = Number(value)
      if (/^\d+$/.test(value) && number >= min && number <= max) return number
      problems.push(`${name} must be a whole number from ${min} to ${max}`)
      return fallback
    },

    list: (name: string) => (text(name) ?? '').split(',').map((item) => item.trim()).filter(Boolean),

    url (name: string, protocols: string[]) {
      const value = text(name)
      if (value === undefined) return undefined
      if (URL.canParse(value) && protocols.includes(new URL(value).protocol)) return value
      problems.push(`${name} must be a URL that starts with ${protocols.map((protocol) => `${protocol}//`).join(' or ')}`)
      return undefined
    }
  }
}
