import { writeFile } from 'node:fs/promises'
import { buildApp } from '../app.js'
import { loadConfig } from '../config/index.js'

// Nothing connects to this database.
const app = await buildApp(loadConfig({
  NODE_ENV: 'development', DATABASE_URL: 'postgres://127.0.0.1:9/none', LOG_LEVEL: 'silent'
}))
await app.ready()
await writeFile('openapi.json', `${JSON.stringify(app.swagger(), null, 2)}\n`)
await app.close()
