import { rmSync } from 'node:fs'
import { build } from 'esbuild'

/*
 * The last step of npm run build: one file for the server and most of what it imports, in the place of a thousand, whose loading
 * took more than half of the start. What is loaded on demand (twilio, the API's pages) stays in node_modules.
 */
rmSync('dist/chunks', { recursive: true, force: true })
await build({
  entryPoints: ['src/server.ts'],
  outdir: 'dist',
  chunkNames: 'chunks/[name]-[hash]',
  bundle: true,
  splitting: true,
  sourcemap: true,
  platform: 'node',
  format: 'esm',
  target: 'node20.12',
  external: ['@fastify/swagger', '@fastify/swagger-ui', 'twilio', 'pg-native'],
  // Packages of CommonJS ask for Node's modules by it.
  banner: { js: "import { createRequire } from 'node:module'; const require = createRequire(import.meta.url);" }
})
