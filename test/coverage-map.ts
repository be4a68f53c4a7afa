import { readdirSync } from 'node:fs'
import { join } from 'node:path'

const sources = readdirSync('build/src', { recursive: true, encoding: 'utf8' })
  .filter((file) => file.endsWith('.js')).map((file) => join('build/src', file))

/** Every test covers src and nothing else: a test helper is no product. */
export default () => sources
