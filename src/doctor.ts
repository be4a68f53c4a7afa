import { examine } from './doctor/index.js'

process.exitCode = await examine(process.env, (line) => process.stdout.write(`${line}\n`))
