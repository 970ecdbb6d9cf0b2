/** Mounts of a node's tree for tests: whether this machine can, and a real `nine fuse` with what it said. */
import type { ChildProcess } from 'node:child_process'
import { execFile } from 'node:child_process'
import { existsSync, readFileSync } from 'node:fs'
import { mkdtemp } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { createInterface } from 'node:readline'
import { fuseMissing } from '../../cli/fuse/bridge.ts'
import { thisMachine } from '../../cli/fuse/host.ts'
import { finish } from './run-nine.ts'
import type { Finished, NodeProcess } from './run-nine.ts'

/** Why tests of a mount cannot run here; undefined when they can. In CI only a missing device is a reason. */
export function noFuseBecause(): string | undefined {
  const fuse = fuseMissing(thisMachine)
  if (!('why' in fuse)) return undefined
  if (process.env['CI'] === 'true' && existsSync('/dev/fuse')) throw new Error(`tests of mounts have to run in CI: ${fuse.why}`)
  return fuse.why
}

/** Whether a program that a test needs is here; in CI it has to be. */
export function hasProgram(name: string): boolean {
  const has = thisMachine.hasProgram(name)
  if (!has && process.env['CI'] === 'true' && noFuseBecause() === undefined) throw new Error(`tests of mounts need ${name} in CI`)
  return has
}

export interface MountProcess {
  readonly dir: string
  readonly process: ChildProcess
  /** The line it said when it was ready. */
  readonly ready: { readonly path: string; readonly dir: string; readonly via: string; readonly pid: number }
  /** What it said and exited with. */
  readonly ended: Promise<Finished>
  /** SIGINT, and what became of it. */
  stop(): Promise<Finished>
}

const running = new Set<{ readonly dir: string; readonly process: ChildProcess }>()

/** What a test that failed has left: end it, so that nothing of it outlives the run. */
export async function endMounts(): Promise<void> {
  for (const { dir, process } of running) {
    process.kill('SIGKILL')
    await thisMachine.run('fusermount', ['-u', '-z', dir])
  }
  running.clear()
}

/** `nine fuse PATH DIR` on a folder of its own, once it is ready. */
export async function mountTree(node: NodeProcess, path: string, options: readonly string[] = [], folder?: string): Promise<MountProcess> {
  const dir = folder ?? (await mkdtemp(join(tmpdir(), 'ninefold-mount-')))
  const child = node.start(['fuse', '--json', '--via', 'fuse', ...options, path, dir])
  const mount = { dir, process: child }
  running.add(mount)
  const ended = finish(child).finally(() => running.delete(mount))
  const lines = createInterface({ input: child.stdout! })
  const line = await Promise.race([
    new Promise<string>((resolve) => lines.once('line', resolve)),
    ended.then(({ code, stderr }) => Promise.reject(new Error(`nine fuse exited with ${code}: ${stderr}`))),
  ])
  return {
    dir,
    process: child,
    ready: JSON.parse(line) as MountProcess['ready'],
    ended,
    stop: () => {
      child.kill('SIGINT')
      return ended
    },
  }
}

export function isMounted(dir: string): boolean {
  return readFileSync('/proc/self/mountinfo', 'utf8').includes(` ${dir} `)
}

/** Run a shell line; its standard output. Rejects with what it said on standard error. */
export function shell(line: string, cwd?: string): Promise<string> {
  return new Promise((resolve, reject) => {
    execFile('/bin/bash', ['-euo', 'pipefail', '-c', line], { cwd, maxBuffer: 64 * 1024 * 1024 }, (error, stdout, stderr) => {
      if (error === null) resolve(stdout)
      else reject(new Error(`${line}: exited with ${error.code}: ${stderr}${stdout}`.slice(0, 4000)))
    })
  })
}
