/**
 * nine import DIR PATH: a local folder into the namespace.
 *
 * M1 A file is taken for done when kind, size, mode and time are as in DIR, so that an interrupted import goes on where it was.
 * M2 Directories come before what they hold; files go in parallel, each as one change, so that a cut leaves whole files only.
 * M3 What is at PATH but not in DIR is left alone, unless `removeExtra`.
 */
import { createReadStream } from 'node:fs'
import { lstat, readFile } from 'node:fs/promises'
import { join } from 'node:path'
import { isNineError, NineError } from '../../namespace/errors.ts'
import { limits } from '../../namespace/limits.ts'
import type { Client } from '../../sdk/client-api.ts'
import { InFlight } from './in-flight.ts'
import { localFolder, localTree } from './local-tree.ts'
import type { TreeEntry, Unfit } from './local-tree.ts'
import { differences, mergeTrees } from './merge.ts'
import { isOver, OpenDirectories } from './open-directories.ts'
import type { OpenDirectory } from './open-directories.ts'
import { remoteTree } from './remote-tree.ts'
import type { Progress } from './progress.ts'

export interface TransferReport {
  readonly files: number
  readonly directories: number
  readonly symlinks: number
  readonly bytes: number
  /** Entries found in place already. */
  readonly skipped: number
  readonly removed: number
  readonly unfit: readonly Unfit[]
  readonly seconds: number
}

export interface TransferOptions {
  readonly inFlight: number
  readonly removeExtra: boolean
  readonly progress: Progress
}

/** @throws NineError `not_directory` when DIR is none */
export async function importTree(client: Client, dir: string, path: string, options: TransferOptions): Promise<TransferReport> {
  const begun = performance.now()
  const root = await localFolder(lstat(dir), dir)
  const report = { files: 0, directories: 0, symlinks: 0, bytes: 0, skipped: 0, removed: 0, unfit: [] as Unfit[] }
  const onUnfit = (unfit: Unfit): void => void report.unfit.push(unfit)
  await makeRoot(client, path, root.mode & 0o7777)
  const jobs = new InFlight(options.inFlight)
  const directories = new OpenDirectories()
  const endDirectories = async (done: readonly OpenDirectory[]): Promise<void> => {
    for (const directory of done) await jobs.add(() => keepTime(client, path, directory))
  }
  let removedBelow: string | undefined
  let tooLongBelow: string | undefined
  for await (const { left, right } of mergeTrees(
    localTree(dir, onUnfit),
    remoteTree(client, path, () => undefined),
  )) {
    const entry = left ?? right!
    const at = path === '/' ? `/${entry.path}` : `${path}/${entry.path}`
    await endDirectories(directories.goTo(entry.path))
    if (tooLongBelow !== undefined && entry.path.startsWith(tooLongBelow)) continue
    if (Buffer.byteLength(at) > limits.path_bytes_max) {
      onUnfit({ path: entry.path, why: `its path would have more than ${limits.path_bytes_max} bytes` })
      tooLongBelow = `${entry.path}/`
      continue
    }
    if (left === undefined) {
      const isGone = removedBelow !== undefined && entry.path.startsWith(removedBelow)
      if (!options.removeExtra || isGone) continue
      removedBelow = `${entry.path}/`
      directories.change()
      await client.remove(at, { recursive: true })
      report.removed++
      continue
    }
    if (right !== undefined && differences(left, right).length === 0) {
      report.skipped++
      if (left.kind === 'directory') directories.enter(left.path, left.modifiedAt)
      options.progress.add(1, left.size)
      continue
    }
    const parent = directories.change()
    if (right !== undefined && right.kind !== left.kind) {
      await client.remove(at, { recursive: true })
      if (right.kind === 'directory') removedBelow = `${entry.path}/`
    }
    if (left.kind === 'directory') {
      await putDirectory(client, at, left)
      directories.enter(left.path, left.modifiedAt)
      report.directories++
      options.progress.add(1, 0)
      continue
    }
    if (parent !== undefined) parent.pending++
    await jobs.add(async () => {
      if (left.kind === 'symlink') {
        await putSymlink(client, at, left)
        report.symlinks++
      } else {
        const sent = await onceMore(() => putFile(client, join(dir, left.path), at, left))
        report.bytes += sent
        report.files++
      }
      options.progress.add(1, left.size)
      if (parent === undefined) return
      parent.pending--
      if (isOver(parent)) await keepTime(client, path, parent)
    })
  }
  await endDirectories(directories.goTo(''))
  await jobs.settle()
  return { ...report, seconds: (performance.now() - begun) / 1000 }
}

/** The directory that DIR becomes; one that is there keeps its mode. */
async function makeRoot(client: Client, path: string, mode: number): Promise<void> {
  if (path === '/') return
  try {
    await client.mkdir(path, { parents: true, mode })
  } catch (error) {
    if (!isNineError(error, 'exists')) throw error
    const stat = await client.stat(path)
    if (stat.kind !== 'directory')
      throw new NineError({ kind: 'not_directory', op: 'cli.import', path, message: `${path} is no directory` })
  }
}

async function putDirectory(client: Client, at: string, { mode, modifiedAt }: TreeEntry): Promise<void> {
  try {
    await client.mkdir(at, { mode, modifiedAt })
  } catch (error) {
    if (!isNineError(error, 'exists')) throw error
    await client.setStat(at, { mode, modifiedAt })
  }
}

/** Where names in a directory change its time (trees of 9P servers), it has its own again. */
async function keepTime(client: Client, root: string, { path, modifiedAt }: OpenDirectory): Promise<void> {
  const at = root === '/' ? `/${path}` : `${root}/${path}`
  if ((await client.stat(at)).modifiedAt !== modifiedAt) await client.setStat(at, { modifiedAt })
}

async function putSymlink(client: Client, at: string, { target, mode, modifiedAt }: TreeEntry): Promise<void> {
  const options = { mode, modifiedAt }
  try {
    await client.symlink(at, target!, options)
  } catch (error) {
    if (!isNineError(error, 'exists')) throw error
    await client.remove(at, { recursive: true })
    await client.symlink(at, target!, options)
  }
}

/** What a large file had sent goes with the connection; sending it again from its start is the same change. */
async function onceMore<T>(put: () => Promise<T>): Promise<T> {
  for (let attempt = 1; ; attempt++) {
    try {
      return await put()
    } catch (error) {
      if (!isNineError(error, 'unavailable') || attempt === puts_max) throw error
    }
  }
}

const puts_max = 5

/** Bytes sent. A file that changes while it is read ends as it was read; the next import sees its new time. */
async function putFile(client: Client, from: string, at: string, entry: TreeEntry): Promise<number> {
  const fields = { mode: entry.mode, modifiedAt: entry.modifiedAt }
  if (entry.size <= limits.write_bytes_max / 4) {
    const bytes = await readFile(from)
    await client.write(at, bytes, fields)
    return bytes.length
  }
  let sent = 0
  await client.writeStream(at, createReadStream(from, { highWaterMark: limits.chunk_bytes }) as AsyncIterable<Uint8Array>, {
    ...fields,
    timeoutMs: Infinity,
    onProgress: (bytes) => (sent = bytes),
  })
  return sent
}
