/** Errors of a connection that never stood. */
const codes = new Set(['ECONNREFUSED', 'ENOTFOUND', 'EAI_AGAIN', 'EHOSTUNREACH', 'ENETUNREACH', 'UND_ERR_CONNECT_TIMEOUT'])

/** Why a fetch found nobody to hand anything over to, by its error code; undefined where it failed in another way. */
export function whyUnreachable (error: unknown): string | undefined {
  const { code = '' } = ((error as Error).cause ?? {}) as NodeJS.ErrnoException
  return codes.has(code) ? code : undefined
}
