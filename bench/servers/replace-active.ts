import type { InitializeHook, ResolveHook } from 'node:module'

/*
 * Module hooks: every import of src/users/active.ts gets another module, which may import the original. Nothing else of
 * the service changes.
 */
let replacement = ''

export const initialize: InitializeHook<string> = (url) => { replacement = url }

export const resolve: ResolveHook = async (specifier, context, nextResolve) => {
  const resolved = await nextResolve(specifier, context)
  const isReplaced = resolved.url.endsWith('/src/users/active.js') && context.parentURL !== replacement
  return isReplaced ? { ...resolved, url: replacement } : resolved
}
