/** A cluster of processes of one kind, on loopback, in a folder of its own: begun, ended one by one, and ended as a whole by process id. */
import { spawn } from 'node:child_process'
import type { ChildProcess } from 'node:child_process'
import { closeSync, mkdtempSync, openSync, readFileSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import type { Driver } from './driver.ts'

/** A cluster and its driver, as the bench sees them. */
export interface Subject {
  readonly name: string
  readonly driver: Driver
  readonly processes: ClusterProcesses
  /** Start a node's process again. */
  begin(node: number): void
  stop(): Promise<void>
}

export interface Launch {
  readonly command: string
  readonly args: readonly string[]
}

const patience_ms = 15_000

export class ClusterProcesses {
  readonly folder: string
  readonly #launchOf: (node: number) => Launch
  readonly #children: (ChildProcess | undefined)[] = []
  /** When this process ends before `stop`, nothing of it stays. */
  readonly #onExit = (): void => {
    for (const child of this.#children) child?.kill('SIGKILL')
    rmSync(this.folder, { recursive: true, force: true })
  }

  constructor(name: string, launchOf: (node: number, folder: string) => Launch) {
    this.folder = mkdtempSync(join(tmpdir(), `nine-bench-${name}-`))
    this.#launchOf = (node) => launchOf(node, this.folder)
    process.once('exit', this.#onExit)
  }

  /** Not that it serves. */
  start(node: number): void {
    const { command, args } = this.#launchOf(node)
    const log = openSync(join(this.folder, `${node}.log`), 'a')
    this.#children[node] = spawn(command, args, { stdio: ['ignore', log, log] })
    closeSync(log)
  }

  pid(node: number): number {
    return this.#children[node]!.pid!
  }

  /** Resolves when the process ends, to how. */
  ended(node: number): Promise<string> {
    const child = this.#children[node]!
    return new Promise((resolve) => child.once('exit', (status, signal) => resolve(String(signal ?? status))))
  }

  /** Ends the process; resolves when it has ended. One that takes longer than `patience_ms` to stop is killed. */
  async end(node: number, signal: NodeJS.Signals = 'SIGKILL'): Promise<void> {
    const child = this.#children[node]
    this.#children[node] = undefined
    if (child === undefined || child.exitCode !== null || child.signalCode !== null) return
    const exited = new Promise((resolve) => child.once('exit', resolve))
    child.kill(signal)
    const timer = setTimeout(() => child.kill('SIGKILL'), patience_ms)
    await exited
    clearTimeout(timer)
  }

  /** What a process wrote last, for a message about why it does not serve. */
  lastWords(): string {
    return this.#children
      .map((_, node) => {
        const lines = readFileSync(join(this.folder, `${node}.log`), 'utf8')
          .trim()
          .split('\n')
        return `${node}: ${lines.slice(-3).join(' | ').slice(-600)}`
      })
      .join('\n')
  }

  async stop(): Promise<void> {
    await Promise.all(this.#children.map((_, node) => this.end(node, 'SIGTERM')))
    process.removeListener('exit', this.#onExit)
    rmSync(this.folder, { recursive: true, force: true })
  }

  /** Seconds of a core that all processes have used. */
  cpuSeconds(): number {
    return this.#children.reduce((sum, child) => sum + (child === undefined ? 0 : cpuSecondsOf(child.pid!)), 0)
  }
}

/** Seconds of a core that a process has used so far. */
export function cpuSecondsOf(pid: number): number {
  // After the name, which may hold anything: utime and stime are fields 14 and 15 of proc(5)'s stat, in ticks of 10 ms.
  const fields = readFileSync(`/proc/${pid}/stat`, 'utf8')
    .replace(/^.*\) /s, '')
    .split(' ')
  return (Number(fields[11]) + Number(fields[12])) / 100
}

export function residentMebibytes(pid: number): number {
  return Number(/^VmRSS:\s+(\d+) kB/m.exec(readFileSync(`/proc/${pid}/status`, 'utf8'))?.[1]) / 1024
}
