/** What this machine has for mounts, behind a port so that tests can be a machine that has less. */
import { execFile } from 'node:child_process'
import { accessSync, constants, readFileSync } from 'node:fs'
import { delimiter, join } from 'node:path'
import type { Binding } from './native.ts'
import { loadBinding } from './native.ts'

export interface Host {
  readonly platform: NodeJS.Platform
  /** Text of a file of the system, undefined when it cannot be read. */
  readText(file: string): string | undefined
  isAccessible(file: string): boolean
  /** Whether PATH has this program. */
  hasProgram(name: string): boolean
  /** Run a program; its exit code and what it said on standard error. */
  run(program: string, args: readonly string[]): Promise<{ readonly code: number; readonly stderr: string }>
  /** @throws Error of the loader */
  loadBinding(): Binding
}

export const thisMachine: Host = {
  platform: process.platform,
  readText: (file) => {
    try {
      return readFileSync(file, 'utf8')
    } catch {
      return undefined
    }
  },
  isAccessible: (file) => isUsable(file, constants.R_OK | constants.W_OK),
  hasProgram: (name) =>
    (process.env['PATH'] ?? '').split(delimiter).some((folder) => folder !== '' && isUsable(join(folder, name), constants.X_OK)),
  run: (program, args) =>
    new Promise((resolve) => {
      execFile(program, args, (error, _, stderr) => {
        const code = error === null ? 0 : typeof error.code === 'number' ? error.code : 1
        resolve({ code, stderr: error !== null && stderr === '' ? error.message : stderr })
      })
    }),
  loadBinding,
}

function isUsable(file: string, mode: number): boolean {
  try {
    accessSync(file, mode)
    return true
  } catch {
    return false
  }
}
