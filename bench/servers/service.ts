import { register } from 'node:module'
import { connect, type AddressInfo } from 'node:net'
import pg from 'pg'
import { ready, setup } from '../harness/child.js'

/*
 * The service with the settings of production. `activeUsers` names a module of this folder that replaces
 * src/users/active.ts. Each message is one line to `smsPort`.
 */
export interface ServiceSetup { activeUsers?: string, smsPort?: number }
const { activeUsers, smsPort } = setup as ServiceSetup

let statements = 0
const { query } = pg.Client.prototype
pg.Client.prototype.query = function (this: pg.Client, ...args: unknown[]) {
  statements++
  return query.apply(this, args as never)
} as typeof query

if (activeUsers) register('./replace-active.js', import.meta.url, { data: new URL(`./${activeUsers}.js`, import.meta.url).href })
const { buildApp } = await import('../../src/app.js')
const { loadConfig } = await import('../../src/config/index.js')

const gateway = smsPort ? connect(smsPort) : undefined
const app = await buildApp(loadConfig(process.env), gateway && {
  sms: async ({ to, text }) => { gateway.write(`${to} ${text}\n`) }
})
await app.listen({ host: '127.0.0.1', port: 0 })
ready({ port: (app.server.address() as AddressInfo).port }, () => ({ statements }))
