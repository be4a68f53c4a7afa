import { readFileSync, writeFileSync } from 'node:fs'
import t, { type Test } from 'tap'
import { migrate } from '../../../src/db/migrate.js'
import { startProxy } from '../../helpers/proxy.js'
import { logLines, smsWebhook, startService, until } from '../../helpers/server-process.js'
import { startRedis, startTestPostgres, temporaryFolder } from '../../helpers/servers.js'
import { productionEnv, testDatabase, testRedis } from '../../helpers/service.js'
import { groupNames, groups, startLoad, type Group, type Outcome } from './load.js'

/*
 * npm run test:faults: each dependency fails in each way while 32 clients use all routes at once. A table of the
 * responses is written to build/faults.txt.
 */
const faults = ['refused', 'frozen', 'slow', 'cut'] as const
type Fault = typeof faults[number]

const smsTimeoutMs = 3000
/** Shortest time for which a dependency is unavailable. */
const outageMs = 3000
/** Longest time after a failure until a request ends. */
const responseMs = 3000
const recoveryMs = 2000
/** Less than a slow SMS provider takes: a request that waits for the provider takes longer. */
const undisturbedMs = 1500
/** Highest growth of a process's memory over three faults, in MiB: a few KiB kept for each failed request exceed it. */
const growthMiB = 48

interface Dependency {
  env: Record<string, string>
  strike: (fault: Fault) => Promise<void>
  mend: (fault: Fault) => Promise<void>
  /** The responses without the dependency, where they differ from the normal ones. */
  failing: Partial<Record<Group, string>>
  /**
   * Whether a 503 means that nothing has changed, for a request that began after the failure (`isAfter`) or during it.
   */
  keeps: (group: Group, fault: Fault, isAfter: boolean) => boolean
}

const signal = (pids: number[], name: NodeJS.Signals) => { for (const pid of pids) process.kill(pid, name) }

interface Server { pids: () => number[], stop: () => Promise<void>, start: () => Promise<void> }

/**
 * Puts a proxy in front of a server. A stopped server is the fault `refused`, SIGSTOP is `frozen`, the proxy does the
 * rest.
 */
async function faultyServer (t: Test, port: number, server: Server) {
  const proxy = await startProxy(t, port)
  let stopped: number[] = []
  return {
    port: proxy.port,
    async strike (fault: Fault) {
      if (fault === 'frozen') {
        stopped = server.pids()
        return signal(stopped, 'SIGSTOP')
      }
      if (fault === 'refused') await server.stop()
      await proxy.set(fault)
    },
    async mend (fault: Fault) {
      if (fault === 'frozen') return signal(stopped, 'SIGCONT')
      if (fault === 'refused') await server.start()
      await proxy.set('pass')
    }
  }
}

const dependencies: Record<string, (t: Test, smsUrl: string) => Promise<Dependency>> = {
  async Redis (t) {
    const folder = await temporaryFolder()
    // With these settings Redis keeps every acknowledged write through kill -9.
    const args = ['--appendonly', 'yes', '--appendfsync', 'no', '--dir', folder.path]
    let server = await startRedis({ args })
    const { port } = server
    t.teardown(async () => {
      await server.stop()
      await folder.remove()
    })
    const faulty = await faultyServer(t, port, {
      pids: () => [server.pid],
      stop: () => server.stop(),
      start: async () => { server = await startRedis({ port, args }) }
    })
    return {
      ...faulty,
      env: { REDIS_URL: `redis://127.0.0.1:${faulty.port}` },
      failing: { send: '503', verify: '503', logout: '503', deletion: '503', ready: '200 degraded' },
      // A code may have been consumed if only the reply was lost. A row is written only after the reply.
      keeps: (group, fault, isAfter) => group !== 'verify' || (fault === 'refused' && isAfter)
    }
  },

  async PostgreSQL (t) {
    const server = await startTestPostgres()
    t.teardown(server.remove)
    await migrate(server.url)
    const faulty = await faultyServer(t, Number(new URL(server.url).port), {
      pids () {
        const children = readFileSync(`/proc/${server.pid}/task/${server.pid}/children`, 'utf8')
        return [server.pid, ...children.split(' ').filter(Boolean).map(Number)]
      },
      stop: server.stop,
      start: server.start
    })
    return {
      ...faulty,
      env: { DATABASE_URL: server.url.replace(/:\d+\//, `:${faulty.port}/`) },
      failing: Object.fromEntries(groupNames.filter((group) => group !== 'live')
        .map((group) => [group, group === 'ready' ? '503 unavailable' : '503'])),
      // A COMMIT may have been on its way. A code is restored in any case.
      keeps: (group, _fault, isAfter) => group === 'verify' || isAfter
    }
  },

  async SMS (t, smsUrl) {
    const proxy = await startProxy(t, Number(new URL(smsUrl).port))
    return {
      env: { SMS_WEBHOOK_URL: `http://127.0.0.1:${proxy.port}/` },
      strike: (fault) => proxy.set(fault),
      mend: () => proxy.set('pass'),
      failing: { send: '502' },
      keeps: () => true
    }
  }
}

/** The allowed responses of a group while a dependency is unavailable. Requests may wait for a slow dependency. */
function allowedResponses (name: string, fault: Fault, group: Group, dependency: Dependency) {
  const { normal } = groups[group]
  const failing = dependency.failing[group] ?? normal
  if (fault !== 'slow') return [failing]
  return name === 'SMS' ? [normal] : [normal, failing]
}

const residentMiB = (pid: number) =>
  Number(/VmRSS:\s+(\d+)/.exec(readFileSync(`/proc/${pid}/status`, 'utf8'))?.[1]) / 1024

const table: string[] = []
const columns = (cells: string[]) => cells.map((cell, i) => i ? cell.padStart(26) : cell.padEnd(14)).join('')

t.jobs = 3
for (const [name, start] of Object.entries(dependencies)) {
  t.test(`the service survives and recovers from each outage of ${name}`, { buffered: true }, async (t) => {
    const receiver = await smsWebhook(t)
    const dependency = await start(t, receiver.url)
    const service = await startService(t, {
      ...productionEnv((await testDatabase(t)).url, (await testRedis(t)).url),
      DATABASE_CONNECT_TIMEOUT_MS: '1000',
      LOG_LEVEL: 'info',
      SMS_WEBHOOK_URL: receiver.url,
      SMS_TIMEOUT_MS: String(smsTimeoutMs),
      ...dependency.env
    })
    await until(() => fetch(`${service.url}/health/ready`).then(({ ok }) => ok))
    const load = await startLoad(service.url, receiver.sms)
    const rows = new Map<string, string[]>([...groupNames, 'recovery'].map((row) => [row, [row]]))
    const memory: number[] = []

    for (const fault of faults) {
      await t.test(fault, async (t) => {
        const now = () => performance.now()
        await until(load.isSteady)
        const struck = now()
        load.strike((group, isAfter) => dependency.keeps(group, fault, isAfter))
        await dependency.strike(fault)
        const failed = load.struck()
        let mending: number
        try {
          await until(() => now() - failed > outageMs && load.isAnswered())
        } finally {
          mending = now()
          await dependency.mend(fault)
        }
        const back = load.mended()
        await until(load.isSteady)

        const outcomes = load.outcomes()
        const isFailing = ({ group, status }: Outcome) => status !== groups[group].normal
        const failures = outcomes.filter((outcome) => outcome.start > struck && isFailing(outcome))
        const recovered = Math.max(back, ...failures.map(({ end }) => end))
        for (const group of groupNames) {
          const { normal } = groups[group]
          const allowed = allowedResponses(name, fault, group, dependency)
          const mine = outcomes.filter((outcome) => outcome.group === group)
          const duringOutage = mine.filter(({ start, end }) => start > failed && end < mending)
          const unexpected = mine.filter(({ status, start, end }) =>
            !(end < struck ? [normal] : start > failed && end < mending ? allowed : [normal, ...allowed])
              .includes(status))
          const shown = unexpected.slice(0, 3)
            .map(({ status, start, end }) => [status, Math.round(start - struck), Math.round(end - struck)])
          t.strictSame(shown, [], `${group} responds ${allowed.join(' or ')}, and ${normal} before and after`)

          const longest = Math.max(
            ...mine.filter(({ end }) => end > struck).map(({ start, end }) => end - Math.max(start, struck))
          )
          const limit = name !== 'SMS' ? responseMs : group === 'send' ? smsTimeoutMs + 1000 : undisturbedMs
          t.ok(longest < limit, `${group} responds in time: ${Math.round(longest)} ms`)
          const statuses = [...new Set(duringOutage.map(({ status }) => status))].sort().join('/')
          rows.get(group)?.push(`${statuses} ${String(Math.round(longest)).padStart(5)} ms`)
        }
        t.ok(recovered - back < recoveryMs, `recovers in time: ${Math.round(recovered - back)} ms`)
        rows.get('recovery')?.push(`${Math.round(recovered - back)} ms`)
        memory.push(Math.round(residentMiB(service.pid)))
      })
    }

    await load.stop()
    t.strictSame(
      receiver.sms.filter(({ to }) => load.refusedSends.has(to)), [], 'a send with response 503 sent no message'
    )
    t.equal(await service.stop(), 0, 'the process survived all faults')
    t.strictSame(logLines(service.stdout).filter(({ level }) => level === 60), [])
    t.ok((memory.at(-1) as number) - (memory[0] as number) < growthMiB, `memory stays flat: ${memory.join(', ')} MiB`)
    table.push(
      '',
      columns([name, 'refused', 'frozen', 'slow 2 s', 'cut mid-reply']),
      ...[...rows.values()].map(columns),
      columns(['memory', ...memory.map((mib) => `${mib} MiB`)])
    )
  })
}

t.teardown(() => { writeFileSync('build/faults.txt', `${table.join('\n').trimStart()}\n`) })
