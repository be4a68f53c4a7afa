import { loadConfig, type Config, type ConfigError } from '../config/index.js'
import { ok, problem, warning, type Finding } from './finding.js'

/** Loads the configuration of the stores alone, so that they can be checked while other variables have issues. */
function loadStores (env: NodeJS.ProcessEnv): Config | undefined {
  const stores = Object.entries(env).filter(([name]) => /^(DATABASE|REDIS)_/.test(name))
  try {
    return loadConfig({ ...Object.fromEntries(stores), NODE_ENV: 'test' })
  } catch {
    return undefined
  }
}

/** Checks the whole configuration. `config` is undefined if the variables of the stores have issues, too. */
export function checkConfiguration (env: NodeJS.ProcessEnv): { findings: Finding[], config: Config | undefined } {
  try {
    const config = loadConfig(env)
    const findings = config.warnings.map((text) => warning('configuration', text))
    if (findings.length === 0) findings.push(ok('configuration', `complete, messages go by ${config.provider.name}`))
    return { findings, config }
  } catch (error) {
    // loadConfig throws nothing else.
    const { issues } = error as ConfigError
    return { findings: issues.map((text) => problem('configuration', text)), config: loadStores(env) }
  }
}
