/**
 * `nine up` as a process of its own: what every test of real nodes starts.
 *
 * N1 Whatever becomes of the test, no process that it started is left: each is killed at the latest when this process exits.
 */
import { spawn } from 'node:child_process'
import type { ChildProcess } from 'node:child_process'
import { existsSync, readFileSync, watch } from 'node:fs'
import { join } from 'node:path'

/** The compiled command; NINE_COMMAND names another build. */
export const ninePath = process.env['NINE_COMMAND'] ?? join(import.meta.dirname, '..', '..', 'dist', 'cli', 'nine.js')

export interface Finished {
  readonly code: number | null
  readonly stdout: string
  readonly stderr: string
}

const live = new Set<ChildProcess>()
process.on('exit', () => {
  for (const child of live) child.kill('SIGKILL') // N1
})

/** `Ready`: what its ready file says. */
export class Up<Ready> {
  readonly process: ChildProcess
  /** What it said and exited with, once it has. */
  readonly ended: Promise<Finished>
  /** Resolves when it serves; rejects when it ends before, with what it said. */
  readonly ready: Promise<Ready>
  #said = ''
  readonly #listeners = new Set<() => void>()

  /** @param readyFile absolute; it is not there yet */
  constructor(args: readonly string[], readyFile: string, command = ninePath) {
    const child = spawn(process.execPath, [command, 'up', '--ready-file', readyFile, ...args], { stdio: ['ignore', 'pipe', 'pipe'] })
    this.process = child
    live.add(child)
    child.once('close', () => live.delete(child))
    child.stderr.on('data', (part: Buffer) => {
      this.#said += part.toString()
      for (const look of this.#listeners) look()
    })
    this.ended = finish(child)
    const failed = this.ended.then(({ code, stdout, stderr }): never => {
      throw new Error(`nine up ended with ${child.signalCode ?? code}: ${stdout}${stderr}`)
    })
    this.ready = Promise.race([readyOf<Ready>(readyFile), failed])
    // Told to whoever waits for it.
    for (const one of [this.ready, failed]) one.catch(() => undefined)
  }

  /** Everything on standard error so far. */
  said(): string {
    return this.#said
  }

  /** Resolves when standard error matches. */
  says(pattern: RegExp): Promise<string> {
    return new Promise((resolve, reject) => {
      const look = (): void => {
        if (!pattern.test(this.#said)) return
        this.#listeners.delete(look)
        resolve(this.#said)
      }
      this.#listeners.add(look)
      void this.ended.then(() =>
        pattern.test(this.#said) ? resolve(this.#said) : reject(new Error(`it ended without ${pattern}: ${this.#said}`)),
      )
      look()
    })
  }
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

/** The ready file appears by rename, so one look after each change of the folder is enough. */
function readyOf<T>(file: string): Promise<T> {
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
