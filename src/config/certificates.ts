import { X509Certificate } from 'node:crypto'
import type { EnvReader } from './env.js'

/** The certificates of the file that a variable names, in PEM (RFC 7468). */
export function readCertificates (env: EnvReader, name: 'DATABASE_CA_FILE' | 'REDIS_CA_FILE'): string | undefined {
  const pem = env.file(name)
  if (pem === undefined) return undefined
  try {
    return new X509Certificate(pem) && pem
  } catch {
    env.issues.push(`${name} must name a file with a certificate in PEM`)
    return undefined
  }
}
