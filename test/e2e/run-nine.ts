/** Starts a real node from the compiled command and runs `nine` against it, each in a folder of its own. */
import { spawn } from 'node:child_process'
import type { ChildProcess } from 'node:child_process'
import { readFileSync } from 'node:fs'
import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { finish, ninePath, Up } from './up.ts'
import type { Finished } from './up.ts'

export { finish, ninePath } from './up.ts'
export type { Finished } from './up.ts'

export interface Ready {
  readonly http: string
  readonly grpc: string
  /** Where they were asked for. */
  readonly '9p'?: string
  readonly '9pUnix'?: string
  readonly tokenFile: string
  readonly pid: number
  readonly data: string
}

export interface NodeProcess {
  readonly ready: Ready
  readonly folder: string
  readonly process: ChildProcess
  readonly token: string
  /** Run `nine ARGS` against this node. */
  nine(args: readonly string[], options?: RunOptions): Promise<Finished>
  /** `nine` that must succeed and say nothing on standard error; its standard output. */
  ok(args: readonly string[], options?: RunOptions): Promise<string>
  /** Begin `nine ARGS` and leave it running; the caller ends it. */
  start(args: readonly string[]): ChildProcess
  /** SIGTERM, and what the process said and exited with. */
  stop(): Promise<Finished>
  kill(): Promise<void>
}

export interface RunOptions {
  readonly input?: string | Uint8Array
  readonly env?: Record<string, string>
}

export async function temporaryFolder(): Promise<string> {
  return mkdtemp(join(tmpdir(), 'ninefold-test-'))
}

/** A node on its own folder and on ports the system picks. @param data an existing data folder */
export async function startNode(args: readonly string[] = [], data?: string): Promise<NodeProcess> {
  const folder = await temporaryFolder()
  const readyFile = join(folder, 'ready.json')
  const addresses = ['--http', '127.0.0.1:0', '--grpc', '127.0.0.1:0']
  const up = new Up<Ready>(['--data', data ?? join(folder, 'data'), ...addresses, ...args], readyFile)
  const { process: child, ended } = up
  const ready = await up.ready
  const environment = { NINE_ADDR: ready.grpc, NINE_TOKEN_FILE: ready.tokenFile }
  const run = (command: readonly string[], options?: RunOptions): Promise<Finished> =>
    runNine(command, { ...options, env: { ...environment, ...options?.env } })
  return {
    ready,
    folder,
    process: child,
    token: readFileSync(ready.tokenFile, 'utf8'),
    nine: run,
    ok: async (command, options) => {
      const { code, stdout, stderr } = await run(command, options)
      if (code !== 0 || stderr !== '') throw new Error(`nine ${command.join(' ')} exited with ${code}: ${stderr}`)
      return stdout
    },
    start: (command) =>
      spawn(process.execPath, [ninePath, ...command], { env: { ...process.env, ...environment }, stdio: ['pipe', 'pipe', 'pipe'] }),
    stop: () => {
      child.kill('SIGTERM')
      return ended
    },
    kill: async () => {
      child.kill('SIGKILL')
      await ended
      await rm(folder, { recursive: true, force: true })
    },
  }
}

/** Run `nine` with nothing but the given environment pointing it at a node. */
export function runNine(args: readonly string[], { input, env }: RunOptions = {}): Promise<Finished> {
  const child = spawn(process.execPath, [ninePath, ...args], { env: { ...process.env, ...env }, stdio: ['pipe', 'pipe', 'pipe'] })
  child.stdin.on('error', () => undefined)
  child.stdin.end(input)
  return finish(child)
}
