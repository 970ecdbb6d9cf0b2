/**
 * nine export PATH DIR: a tree of the namespace into a local folder.
 *
 * X1 A file appears under its name whole or not at all: it is written beside it and renamed. The name it has until then is short,
 *    whatever its own length, and no other file's.
 * X2 Nothing outside DIR is written: a symbolic link that stands in DIR where a directory belongs is refused, not followed.
 * X3 Modes and times of directories are set last, when nothing below them changes any more. DIR gets PATH's mode when it is made, and
 *    keeps its own when it was there.
 */
import { createWriteStream } from 'node:fs'
import { chmod, lstat, lutimes, mkdir, rename, rm, symlink, unlink, utimes } from 'node:fs/promises'
import { dirname, join } from 'node:path'
import { pipeline } from 'node:stream/promises'
import { NineError } from '../../namespace/errors.ts'
import { systemRandom } from '../../namespace/random.ts'
import type { Micros } from '../../namespace/stat.ts'
import type { Client } from '../../sdk/client-api.ts'
import type { TransferOptions, TransferReport } from './import.ts'
import { InFlight } from './in-flight.ts'
import { localTree } from './local-tree.ts'
import type { TreeEntry, Unfit } from './local-tree.ts'
import { differences, mergeTrees } from './merge.ts'
import { remoteTree } from './remote-tree.ts'

const partialName = /(^|\/)\.nine-partial-[a-z0-9]{20,26}$/

export async function exportTree(client: Client, path: string, dir: string, options: TransferOptions): Promise<TransferReport> {
  const begun = performance.now()
  const report = { files: 0, directories: 0, symlinks: 0, bytes: 0, skipped: 0, removed: 0, unfit: [] as Unfit[] }
  const onUnfit = (unfit: Unfit): void => void report.unfit.push(unfit)
  const source = await client.stat(path)
  if (source.kind !== 'directory')
    throw new NineError({ kind: 'not_directory', op: 'cli.export', path, message: `${path} is no directory` })
  const modeBefore = await makeLocalDirectory(dir)
  const directories: TreeEntry[] = []
  const jobs = new InFlight(options.inFlight)
  let removedBelow: string | undefined
  for await (const { left, right } of mergeTrees(
    remoteTree(client, path, onUnfit),
    localTree(dir, () => undefined),
  )) {
    const entry = left ?? right!
    const to = join(dir, entry.path)
    if (left === undefined) {
      const isGone = removedBelow !== undefined && entry.path.startsWith(removedBelow)
      const isPartial = partialName.test(entry.path)
      if (isGone || (!options.removeExtra && !isPartial)) continue
      removedBelow = `${entry.path}/`
      await rm(to, { recursive: true })
      report.removed++
      continue
    }
    if (left.kind === 'directory') {
      if (right !== undefined && right.kind !== 'directory') await unlink(to)
      await makeLocalDirectory(to)
      directories.push(left)
      report.directories++
      options.progress.add(1, 0)
      continue
    }
    if (right !== undefined && differences(left, right).length === 0) {
      report.skipped++
      options.progress.add(1, left.size)
      continue
    }
    if (right?.kind === 'directory') {
      await rm(to, { recursive: true })
      removedBelow = `${entry.path}/`
    }
    const from = path === '/' ? `/${left.path}` : `${path}/${left.path}`
    await jobs.add(async () => {
      if (left.kind === 'symlink') {
        await makeLink(to, left)
        report.symlinks++
      } else {
        await makeFile(client, from, to, left)
        report.bytes += left.size
        report.files++
      }
      options.progress.add(1, left.size)
    })
  }
  await jobs.settle()
  for (const entry of directories.reverse()) {
    await chmod(join(dir, entry.path), entry.mode)
    await setTime(join(dir, entry.path), entry.modifiedAt)
  }
  const mode = modeBefore ?? source.mode
  if (mode !== modeOf(await lstat(dir))) await chmod(dir, mode)
  return { ...report, seconds: (performance.now() - begun) / 1000 }
}

/** The mode it had; undefined when it was made. */
async function makeLocalDirectory(path: string): Promise<number | undefined> {
  const known = await lstat(path).catch(() => undefined)
  if (known?.isDirectory() === true) {
    // Writable while it is filled; its own mode comes last (X3).
    if ((known.mode & 0o700) !== 0o700) await chmod(path, 0o700 | (known.mode & 0o777))
    return modeOf(known)
  }
  if (known !== undefined)
    throw new NineError({ kind: 'exists', op: 'cli.export', path, message: `${path} is in the way: it is no folder` })
  await mkdir(dirname(path), { recursive: true })
  await mkdir(path, { mode: 0o700 })
  return undefined
}

function modeOf({ mode }: { readonly mode: number }): number {
  return mode & 0o7777
}

async function makeLink(to: string, entry: TreeEntry): Promise<void> {
  const partial = partialOf(to)
  await symlink(entry.target!, partial)
  await lutimes(partial, secondsOf(entry.modifiedAt), secondsOf(entry.modifiedAt))
  await rename(partial, to)
}

async function makeFile(client: Client, from: string, to: string, entry: TreeEntry): Promise<void> {
  const partial = partialOf(to)
  // 'wx': a link planted under the partial's name is never written through (X2).
  const parts = entry.size <= 1024 * 1024 ? [await client.read(from)] : client.readStream(from)
  await pipeline(parts, createWriteStream(partial, { flags: 'wx', mode: 0o600 }))
  const { size } = await lstat(partial)
  if (size !== entry.size) {
    await unlink(partial)
    const message = `${from} changed while it was exported (${entry.size} bytes, then ${size}); run the export again in ${dirname(to)}`
    throw new NineError({ kind: 'conflict', op: 'cli.export', path: from, message })
  }
  await chmod(partial, entry.mode)
  await setTime(partial, entry.modifiedAt)
  await rename(partial, to)
}

/** Beside `to` and never the name of anything exported: a fresh one each time (X1). An interrupted export leaves it; the next removes it. */
function partialOf(to: string): string {
  return join(dirname(to), `.nine-partial-${systemRandom.id()}`)
}

function setTime(path: string, time: Micros): Promise<void> {
  return utimes(path, secondsOf(time), secondsOf(time))
}

/** Half a microsecond up, so that the kernel's cut to nanoseconds stays inside the microsecond. */
function secondsOf(time: Micros): number {
  return (time + 0.5) / 1e6
}
