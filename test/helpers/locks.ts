import pg from 'pg'
import type { Test } from 'tap'

/** Runs `statement` in a transaction of its own, which keeps its locks until `release` is called. */
export async function holdLock (t: Test, url: string, statement: string, values: unknown[] = []) {
  const holder = new pg.Client({ connectionString: url })
  const watcher = new pg.Client({ connectionString: url })
  await Promise.all([holder.connect(), watcher.connect()])
  t.teardown(() => Promise.all([holder.end(), watcher.end()]))
  await holder.query('BEGIN')
  await holder.query(statement, values)
  return {
    /** Waits until at least `count` statements wait for a lock. */
    async isAwaited (count = 1) {
      const waiting = `SELECT count(*)::int FROM pg_stat_activity
        WHERE datname = current_database() AND wait_event_type = 'Lock'`
      while ((await watcher.query(waiting)).rows[0].count < count);
    },
    release: () => holder.query('COMMIT')
  }
}
