export interface CodeSecrets {
  codeSecret: string
  codeSecretPrevious?: string | undefined
}

/** Returns the secret under which a record is stored; `keyOf` returns the key of the record under a secret. */
export type PickSecret = (keyOf: (secret: string) => string) => Promise<string>

/**
 * A record made under CODE_SECRET_PREVIOUS keeps its key as long as it lives. New records are made under CODE_SECRET.
 * So no record moves from one slot of a Cluster to another, where two requests could meet it in between.
 */
export function secretPicker (
  { codeSecret, codeSecretPrevious }: CodeSecrets, exists: (key: string) => Promise<unknown>
): PickSecret {
  if (codeSecretPrevious === undefined) return async () => codeSecret
  return async (keyOf) => await exists(keyOf(codeSecretPrevious)) ? codeSecretPrevious : codeSecret
}
