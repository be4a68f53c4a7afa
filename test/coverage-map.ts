import { readdirSync } from 'node:fs'
import { join } from 'node:path'

const sources = readdirSync('build/src', { recursive: true, encoding: 'utf8' })
  .filter((file) => file.endsWith('.js')).map((file) => join('build/src', file))

/** Every test covers only src: test helpers are not part of the product. */
export default () => sources
