import fp from 'fastify-plugin'
import { openDatabase, type Database, type DatabaseOptions } from '../db/database.js'
import { describeDatabase, isIncomplete } from '../db/errors.js'
import { outageLog, type OutageLog } from '../monitoring/outage-log.js'

declare module 'fastify' {
  interface FastifyInstance {
    db: Database
    databaseOutage: OutageLog
  }
}

export default fp<DatabaseOptions>(async (app, config) => {
  const db = openDatabase(config)
  const outage = outageLog(app.log, 'PostgreSQL', describeDatabase)
  for (const pool of db.pools) {
    // Without a listener, the death of an idle connection would end the process.
    pool.on('error', outage.down)
    pool.on('release', (error: Error | false | undefined) => {
      // A successful statement ends an outage, but does not prove that all columns exist.
      if (!error && !outage.isUp() && !isIncomplete(outage.cause())) outage.up()
    })
  }
  app.decorate('db', db)
  app.decorate('databaseOutage', outage)
  app.addHook('onClose', async () => { await Promise.all(db.pools.map((pool) => pool.end())) })
}, { name: 'database' })
