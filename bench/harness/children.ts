import { fork, type ChildProcess } from 'node:child_process'
import { once } from 'node:events'
import { atEnd } from './ending.js'

export type Env = Record<string, string>

export interface Child {
  /** The port on which the process listens, if any. */
  port: number
  ask <Answer>(question: object): Promise<Answer>
}

/** Kills a process when the bench ends. */
export function endWith (child: ChildProcess) {
  atEnd(async () => {
    if (child.exitCode !== null || child.signalCode !== null) return
    child.kill('SIGKILL')
    await once(child, 'exit')
  })
}

/**
 * Starts a script of bench/ in a process of its own, with the environment of production. Its output goes to /dev/null.
 */
export async function startChild (script: string, setup: object = {}, env: Env = {}): Promise<Child> {
  const child = fork(new URL(`../${script}.js`, import.meta.url), [JSON.stringify(setup)], {
    stdio: ['ignore', 'ignore', 'inherit', 'ipc'], env: { PATH: process.env.PATH, NODE_ENV: 'production', ...env }
  })
  endWith(child)
  const failure = once(child, 'exit').then(([code]) => { throw new Error(`${script} ended with ${code}`) })
  failure.catch(() => {})
  const answer = async () => {
    const [message] = await Promise.race([once(child, 'message'), failure]) as [never]
    return message
  }
  const { port } = await answer() as { port: number }
  return {
    port,
    ask (question) {
      child.send(question)
      return answer()
    }
  }
}
