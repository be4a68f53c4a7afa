import { execFileSync } from 'node:child_process'
import { writeFileSync } from 'node:fs'
import { join } from 'node:path'
import type { Test } from 'tap'
import { program, temporaryFolder } from './servers.js'

/** Makes a private CA, and a certificate by this CA for localhost and 127.0.0.1. Returns the paths of the PEM files. */
export async function privateCa (t: Test) {
  const folder = await temporaryFolder()
  t.teardown(folder.remove)
  const path = (name: string) => join(folder.path, name)
  const openssl = (...args: string[]) => execFileSync(program(['openssl'], 'openssl'), args, { stdio: 'pipe' })
  const newKey = ['-newkey', 'ec', '-pkeyopt', 'ec_paramgen_curve:P-256', '-nodes']
  openssl(
    'req', '-x509', ...newKey, '-keyout', path('ca.key'), '-out', path('ca.pem'), '-days', '2', '-subj',
    '/CN=private CA'
  )
  openssl('req', ...newKey, '-keyout', path('server.key'), '-out', path('server.csr'), '-subj', '/CN=store')
  writeFileSync(path('names'), 'subjectAltName=DNS:localhost,IP:127.0.0.1')
  openssl('x509', '-req', '-in', path('server.csr'), '-CA', path('ca.pem'), '-CAkey', path('ca.key'),
    '-CAcreateserial', '-days', '2', '-extfile', path('names'), '-out', path('server.pem'))
  return { ca: path('ca.pem'), key: path('server.key'), certificate: path('server.pem') }
}
