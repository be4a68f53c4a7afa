export interface CodeSecrets {
  codeSecret: string
  codeSecretPrevious?: string | undefined
}

/** Returns the secret under whose name something is kept; `keyOf` is its name under a secret. */
type PickSecret = (keyOf: (secret: string) => string) => Promise<string>

/**
 * What was made under CODE_SECRET_PREVIOUS stays under its name for as long as it lives, and all else is made under CODE_SECRET:
 * no state has to move from one slot of a Cluster to another, where two requests could meet it in between.
 */
export function secretPicker ({ codeSecret, codeSecretPrevious }: CodeSecrets, exists: (key: string) => Promise<unknown>): PickSecret {
  if (codeSecretPrevious === undefined) return async () => codeSecret
  return async (keyOf) => await exists(keyOf(codeSecretPrevious)) ? codeSecretPrevious : codeSecret
}
