import { existsSync, readdirSync, readFileSync, statSync } from 'node:fs'
import { join } from 'node:path'

interface Locked { dev?: boolean, dependencies?: Record<string, string> }

const { packages } = JSON.parse(readFileSync('package-lock.json', 'utf8')) as { packages: Record<string, Locked> }

/** The folder in which Node finds the package `name` for a module in `folder`. */
function resolve (folder: string, name: string): string {
  const path = join(folder, 'node_modules', name)
  return packages[path] ? path : resolve(folder.slice(0, Math.max(0, folder.lastIndexOf('node_modules/') - 1)), name)
}

/** The size of a package's files in bytes, without the packages inside it. */
function bytes (folder: string): number {
  return readdirSync(folder, { withFileTypes: true }).reduce((sum, entry) => {
    const path = join(folder, entry.name)
    if (entry.isDirectory()) return entry.name === 'node_modules' ? sum : sum + bytes(path)
    return sum + statSync(path).size
  }, 0)
}

const measure = (folders: string[]) => ({
  count: folders.length,
  mebibytes: folders.reduce((sum, folder) => sum + bytes(folder), 0) / 2 ** 20
})

/** The packages that npm ci --omit=dev installs, from package-lock.json. */
export const productionPackages = () =>
  measure(Object.keys(packages).filter((folder) => folder !== '' && !packages[folder]?.dev && existsSync(folder)))

/** The packages that one dependency alone installs. */
export function packagesOf (name: string) {
  const found = new Set<string>()
  const visit = (folder: string) => {
    if (found.has(folder)) return
    found.add(folder)
    for (const dependency of Object.keys(packages[folder]?.dependencies ?? {})) visit(resolve(folder, dependency))
  }
  visit(`node_modules/${name}`)
  return measure([...found])
}
