export interface CodeSecrets {
  current: string
  previous?: string | undefined
}

/** Returns the secret under which a record is stored; `keyOf` returns the key of the record under a secret. */
type PickSecret = (keyOf: (secret: string) => string) => Promise<string>

/**
 * A record made under CODE_SECRET_PREVIOUS keeps its key as long as it lives. New records are made under CODE_SECRET.
 * So no record moves from one slot of a Cluster to another, where two requests could meet it in between.
 */
export function secretPicker (secrets: CodeSecrets, exists: (key: string) => Promise<unknown>): PickSecret {
  const { current, previous } = secrets
  if (previous === undefined) return async () => current
  return async (keyOf) => await exists(keyOf(previous)) ? previous : current
}
