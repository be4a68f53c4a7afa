import type { InitializeHook, ResolveHook } from 'node:module'

/* Module hooks: whoever imports src/users/active.ts gets another module; nothing else of the service is changed. */
let replacement = ''

export const initialize: InitializeHook<string> = (url) => { replacement = url }

export const resolve: ResolveHook = async (specifier, context, nextResolve) => {
  const resolved = await nextResolve(specifier, context)
  return resolved.url.endsWith('/src/users/active.js') ? { ...resolved, url: replacement } : resolved
}
