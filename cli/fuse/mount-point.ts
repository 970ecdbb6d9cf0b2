/** The folder a mount stands on: whether it can be one, whether it still is, and how it ends. */
import { readdir, realpath, stat } from 'node:fs/promises'
import { dirname, resolve } from 'node:path'
import { NineError } from '../../namespace/errors.ts'
import type { ErrorKind } from '../../namespace/errors.ts'
import { limits } from '../../namespace/limits.ts'
import type { Host } from './host.ts'

const op = 'cli.fuse'
const mounts_file = '/proc/self/mountinfo'

/**
 * The folder's real path, once it is known to be an empty folder and no mount.
 * @throws NineError `not_found`, `not_directory`, `not_empty`, `exists` (a mount already), `unavailable` (a mount whose process is gone), `denied`
 */
export async function checkMountPoint(host: Host, folder: string): Promise<string> {
  const absolute = resolve(folder)
  const refuse = (kind: ErrorKind, message: string, cause?: unknown): NineError =>
    new NineError({ kind, op, path: absolute, message, cause })
  const stale = `${absolute} is a mount whose process is gone; take it away with: fusermount -u ${quoted(absolute)}`
  let real: string
  try {
    real = await realpath(absolute)
    if (!(await stat(real)).isDirectory()) throw refuse('not_directory', `${absolute} is not a folder to mount on`)
    if (isMounted(host, real) || (await stat(real)).dev !== (await stat(dirname(real))).dev) {
      throw refuse('exists', `${absolute} is a mount already`)
    }
    if ((await readdir(real)).length > 0) throw refuse('not_empty', `${absolute} is not empty: a mount would hide what is in it`)
    return real
  } catch (error) {
    if (error instanceof NineError) throw error
    const { code } = error as NodeJS.ErrnoException
    if (code === 'ENOTCONN') throw refuse('unavailable', stale, error)
    if (code === 'ENOENT') throw refuse('not_found', `there is no folder ${absolute} to mount on`, error)
    if (code === 'ENOTDIR') throw refuse('not_directory', `${absolute} is not a folder to mount on`, error)
    if (code === 'EACCES' || code === 'EPERM') throw refuse('denied', `${absolute} may not be looked into`, error)
    throw error
  }
}

/** Whether something is mounted on this folder, given by its real path: proc_pid_mountinfo(5). */
export function isMounted(host: Host, folder: string): boolean {
  const text = host.readText(mounts_file) ?? ''
  return text.split('\n').some((line) => unescaped(line.split(' ')[4] ?? '') === folder)
}

/**
 * Resolves when the mount was taken away: nothing tells a process so, so it looks. A list of mounts that change while it is read may lack
 * one, or cannot be read for a moment, so it looks twice.
 */
export function unmounted(host: Host, folder: string): Promise<void> {
  return new Promise((resolve) => {
    let misses = 0
    const timer = setInterval(() => {
      misses = isMounted(host, folder) ? 0 : misses + 1
      if (misses < 2) return
      clearInterval(timer)
      resolve()
    }, limits.mount_check_ms)
  })
}

/** Take the mount away, even when programs have files of it open. @throws NineError `internal` */
export async function unmount(host: Host, folder: string, programs: readonly (readonly string[])[]): Promise<void> {
  let said = ''
  for (const [program, ...args] of programs) {
    if (!isMounted(host, folder)) return
    const { code, stderr } = await host.run(program!, [...args, folder])
    if (code === 0) return
    said = stderr.trim()
  }
  if (!isMounted(host, folder)) return
  throw new NineError({ kind: 'internal', op, path: folder, message: `${folder} could not be unmounted: ${said}` })
}

/** Octal escapes for space, tab, newline and backslash. */
function unescaped(text: string): string {
  return text.replace(/\\([0-7]{3})/g, (_, digits: string) => String.fromCharCode(parseInt(digits, 8)))
}

/** As a shell reads it back. */
function quoted(text: string): string {
  return /^[\w@%+=:,./-]+$/.test(text) ? text : `'${text.replaceAll("'", `'\\''`)}'`
}
