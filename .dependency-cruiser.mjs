/*
 * Who may import whom in src. Type-only imports count: a file depends on what its reader has to know.
 */

/**
 * Top first: a file may import its own folder and the layers below. The folders of one layer, which the group in parentheses
 * lists, do not import each other.
 */
const layers = [
  '^src/(server|migrate|dev|doctor)[.]ts$',
  '^src/(process|dev|doctor)/',
  '^src/app[.]ts$',
  '^src/(config)/',
  '^src/(account)/',
  '^src/(auth(?!/codes/|/tokens/)|profile|health)/',
  '^src/(auth/codes|auth/tokens)/',
  '^src/(users)/',
  '^src/(limits)/',
  '^src/(plugins)/',
  '^src/(messages)/',
  '^src/(db|redis)/',
  '^src/(monitoring)/',
  '^src/(http)/',
  '^src/(phone)/'
]

/** Packages that only these files import. */
const reserved = {
  ioredis: '^src/(redis/|plugins/redis[.]ts$)',
  pg: '^src/(db/|dev/postgres-folder[.]ts$)',
  twilio: '^src/messages/providers/twilio[.]ts$'
}

/** Code that runs only where devDependencies are installed. */
const development = '^src/dev(/|[.]ts$)'

/** @type {import('dependency-cruiser').IForbiddenRuleType[]} */
const forbidden = [
  ...layers.slice(1).map((layer, index) => ({
    name: 'no-upward-import',
    from: { path: layer },
    to: { path: layers.slice(0, index + 1) }
  })),
  ...layers.slice(1).map((layer) => ({
    name: 'no-sibling-import',
    from: { path: layer },
    to: { path: layer, pathNot: '^src/$1/' }
  })),
  ...Object.entries(reserved).map(([name, path]) => ({
    name: `${name}-is-reserved`,
    from: { path: '^src/', pathNot: path },
    to: { path: `node_modules/(@types/)?${name}/` }
  })),
  { name: 'no-file-outside-layers', from: { path: '^src/', pathNot: layers }, to: {} },
  { name: 'no-import-outside-layers', from: { path: '^src/' }, to: { dependencyTypes: ['local'], pathNot: layers } },
  { name: 'no-circular', from: {}, to: { circular: true } },
  { name: 'no-orphan', from: { orphan: true }, to: {} },
  { name: 'no-unresolvable', from: {}, to: { couldNotResolve: true } },
  { name: 'no-process-module', from: { path: '^src/' }, to: { path: '^(node:)?process$' } },
  {
    name: 'no-development-code-in-production',
    from: { path: '^src/', pathNot: development },
    to: { path: development }
  },
  {
    name: 'no-development-package-in-production',
    from: { path: '^src/', pathNot: development },
    to: { path: 'node_modules', dependencyTypesNot: ['npm'] }
  }
]

/** @type {import('dependency-cruiser').IConfiguration} */
export default {
  forbidden: forbidden.map((rule) => ({ severity: 'error', ...rule })),
  options: {
    doNotFollow: { path: 'node_modules' },
    tsConfig: { fileName: 'tsconfig.json' },
    tsPreCompilationDeps: true,
    enhancedResolveOptions: { exportsFields: ['exports'], conditionNames: ['import', 'node', 'default'] }
  }
}
