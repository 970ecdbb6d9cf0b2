/**
 * The data folder of a node: its layout, its format, and clear errors for folders that cannot be used.
 *
 *   format        one line: `ninefold data <version>`
 *   lock          pid of the process that has the folder open (see lock.ts)
 *   stores.json   the stores of this node: group number, name, id, incarnation
 *   wal/          the log that all stores share
 *   tree/         the LMDB environment that all stores share
 *   history/      one folder of segments a store
 *   blobs/        chunks of large values, shared by all stores
 *   snapshots/    of a member of a cluster: states of stores on their way from and to other nodes
 *   cluster.json  of a member of a cluster: which one, and who it is there (services/cluster)
 */
import {
  closeSync,
  constants,
  existsSync,
  fsyncSync,
  mkdirSync,
  openSync,
  readFileSync,
  readdirSync,
  renameSync,
  statSync,
  accessSync,
  writeSync,
} from 'node:fs'
import { basename, dirname, join } from 'node:path'
import { NineError, isNineError, textOf, type ErrorKind } from '../../namespace/errors.ts'
import { failpoint, hasFailpoints } from '../../namespace/failpoint.ts'

const format_version = 1
const op = 'storage.open'

/** One store as `stores.json` keeps it. `owner`: the principal that has every right. */
export interface StoreRow {
  readonly group: number
  readonly name: string
  readonly id: string
  readonly incarnation: string
  readonly owner: string
  /** Of a store of a cluster: the members its group began with. */
  readonly voters?: readonly string[] | undefined
}

/**
 * Make the folder if it is missing, and check that this program can use it.
 * @throws NineError `not_directory` (a file is in place), `denied` (permissions), `read_only` (file system), `invalid`
 *   (a folder with other things in it), `unsupported` (written by a newer version), `corrupt` (format file damaged)
 */
export function prepareFolder(dir: string): void {
  try {
    makeFolders(dir)
    if (!statSync(dir).isDirectory()) throw new NineError({ kind: 'not_directory', op, path: dir, message: `${dir} is not a directory` })
    accessSync(dir, constants.R_OK | constants.W_OK | constants.X_OK)
    checkFormat(dir)
  } catch (error) {
    throw folderError(error, dir)
  }
}

function checkFormat(dir: string): void {
  const file = join(dir, 'format')
  let text: string
  try {
    text = readFileSync(file, 'utf8')
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code !== 'ENOENT') throw error
    const others = readdirSync(dir).filter((name) => !name.startsWith('lock') && !name.startsWith('format'))
    if (others.length > 0) {
      const message = `${dir} is no data folder of ninefold: it has no file "format", but holds ${others.slice(0, 3).join(', ')}`
      throw new NineError({ kind: 'invalid', op, path: dir, message })
    }
    writeDurably(file, `ninefold data ${format_version}\n`)
    return
  }
  const version = /^ninefold data (\d+)\n$/.exec(text)?.[1]
  if (version === undefined)
    throw new NineError({ kind: 'corrupt', op, path: file, message: `${file} is damaged: it does not name a format` })
  if (Number(version) > format_version) {
    const message = `${dir} has format ${version}, this program knows up to ${format_version}: use a newer ninefold`
    throw new NineError({ kind: 'unsupported', op, path: dir, message })
  }
}

/** @throws NineError `corrupt` */
export function readStores(dir: string): StoreRow[] {
  const file = join(dir, 'stores.json')
  let text: string
  try {
    text = readFileSync(file, 'utf8')
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'ENOENT') return []
    throw folderError(error, file)
  }
  try {
    const rows: unknown = JSON.parse(text)
    if (Array.isArray(rows) && rows.every(isStoreRow)) return rows
  } catch {
    // Answered below, like every other text that is not the list of stores.
  }
  throw new NineError({ kind: 'corrupt', op, path: file, message: `${file} is damaged: it does not list the stores` })
}

function isStoreRow(row: unknown): row is StoreRow {
  const r = row as StoreRow | null
  const texts = [r?.name, r?.id, r?.incarnation, r?.owner]
  return Number.isSafeInteger(r?.group) && texts.every((text) => typeof text === 'string' && text !== '')
}

/** Durable when it returns. */
export function writeStores(dir: string, rows: readonly StoreRow[]): void {
  try {
    writeDurably(join(dir, 'stores.json'), `${JSON.stringify(rows, undefined, 1)}\n`)
  } catch (error) {
    throw folderError(error, dir)
  }
}

/** Replace `file` as a whole: the old or the new text survives any crash. */
export function writeDurably(file: string, text: string): void {
  const next = `${file}.next`
  const fd = openSync(next, 'w', 0o600)
  try {
    writeSync(fd, text)
    fsyncSync(fd)
  } finally {
    closeSync(fd)
  }
  if (hasFailpoints) passFile(file, 'before')
  renameSync(next, file)
  if (hasFailpoints) passFile(file, 'after')
  const folder = openSync(dirname(file), 'r')
  try {
    fsyncSync(folder)
  } finally {
    closeSync(folder)
  }
}

function passFile(file: string, when: 'before' | 'after'): void {
  const name = basename(file)
  if (name === 'stores.json' || name === 'cluster.json') failpoint(`${name}.${when}`)
}

/** With its parents, each made by itself: making them recursively calls a read-only file system a missing folder, and never ends below /proc. */
function makeFolders(dir: string): void {
  if (existsSync(dir)) return
  if (!existsSync(dirname(dir))) makeFolders(dirname(dir))
  try {
    mkdirSync(dir, { mode: 0o700 })
  } catch (error) {
    // Of file systems that hold no files of ours: the parent is there, and still.
    if ((error as NodeJS.ErrnoException).code !== 'ENOENT') throw error
    throw new NineError({
      kind: 'read_only',
      op,
      path: dir,
      message: `cannot use ${dir} as a data folder: nothing can be made there`,
      cause: error,
    })
  }
}

const kindOfErrno: Record<string, ErrorKind> = {
  EACCES: 'denied',
  EPERM: 'denied',
  EROFS: 'read_only',
  ENOTDIR: 'not_directory',
  EEXIST: 'not_directory',
  ENOSPC: 'no_space',
  EDQUOT: 'no_space',
}

/** A failure of the file system as what it means for a data folder. */
export function folderError(error: unknown, dir: string): NineError {
  if (isNineError(error)) return error
  const code = (error as NodeJS.ErrnoException | undefined)?.code ?? ''
  const kind = kindOfErrno[code] ?? 'internal'
  const what = kind === 'not_directory' ? 'a file is in its place' : textOf(error)
  return new NineError({ kind, op, path: dir, message: `cannot use ${dir} as a data folder: ${what}`, cause: error })
}
