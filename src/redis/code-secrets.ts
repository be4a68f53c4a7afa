export interface CodeSecrets {
  current: string
  previous?: string | undefined
}

/** Returns the secret under whose name something is kept; `keyOf` is its name under a secret. */
export type PickSecret = (keyOf: (secret: string) => string) => Promise<string>

/**
 * What was made under CODE_SECRET_PREVIOUS stays under its name for as long as it lives, and all else is made under CODE_SECRET:
 * no state has to move from one slot of a Cluster to another, where two requests could meet it in between.
 */
export function secretPicker (secrets: CodeSecrets, exists: (key: string) => Promise<unknown>): PickSecret {
  const { current, previous } = secrets
  if (previous === undefined) return async () => current
  return async (keyOf) => await exists(keyOf(previous)) ? previous : current
}
