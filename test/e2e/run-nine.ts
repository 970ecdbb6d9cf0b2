/** Starts a real node from the compiled command and runs `nine` against it, each in a folder of its own. */
import { spawn } from 'node:child_process'
import type { ChildProcess } from 'node:child_process'
import { existsSync, readFileSync, watch } from 'node:fs'
import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'

/** The compiled command. */
export const ninePath = process.env['NINE_COMMAND'] ?? join(import.meta.dirname, '..', '..', 'dist', 'cli', 'nine.js')

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

export interface Finished {
  readonly code: number | null
  readonly stdout: string
  readonly stderr: string
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
  const child = spawn(
    process.execPath,
    [ninePath, 'up', '--data', data ?? join(folder, 'data'), ...addresses, '--ready-file', readyFile, ...args],
    {
      stdio: ['ignore', 'pipe', 'pipe'],
    },
  )
  const ended = finish(child)
  const ready = await Promise.race([readyOf<Ready>(readyFile), ended.then(failedToStart)])
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

export function finish(child: ChildProcess): Promise<Finished> {
  const parts = { stdout: [] as Buffer[], stderr: [] as Buffer[] }
  child.stdout?.on('data', (part: Buffer) => parts.stdout.push(part))
  child.stderr?.on('data', (part: Buffer) => parts.stderr.push(part))
  return new Promise((resolve, reject) => {
    child.once('error', reject)
    child.once('close', (code) =>
      resolve({ code, stdout: Buffer.concat(parts.stdout).toString(), stderr: Buffer.concat(parts.stderr).toString() }),
    )
  })
}

function failedToStart({ code, stdout, stderr }: Finished): never {
  throw new Error(`nine up exited with ${code}: ${stdout}${stderr}`)
}

/** The ready file appears by rename, so one look after each change of the folder is enough. */
export function readyOf<T>(file: string): Promise<T> {
  return new Promise((resolve) => {
    const look = (): void => {
      if (!existsSync(file)) return
      watcher.close()
      resolve(JSON.parse(readFileSync(file, 'utf8')) as T)
    }
    const watcher = watch(join(file, '..'), look)
    watcher.unref()
    look()
  })
}
