/**
 * Changes of a 9P server's tree, each as the messages it takes.
 *
 * G1 A file is made exclusively; who finds one made meanwhile goes on with that one, unless it had to be missing.
 * G2 9P has no transaction: replacing a value is a truncation and writes, removing a tree is many removals. Others see the steps, and
 *    what fails in the middle tells so (O2 of operation.ts).
 * G3 What 9P cannot make one step (append in 9P2000, rename without replacing) is one after the other for this client; another client
 *    can come between.
 */
import type { CreateOptions, RenameOptions, StatChanges, WriteOptions } from '../file-server.ts'
import { isNineError } from '../errors.ts'
import { limits } from '../limits.ts'
import { baseName, isWithin, parentPath, pathComponents } from '../path.ts'
import type { Path } from '../path.ts'
import type { Stat } from '../stat.ts'
import { isDirectory, isLink } from './operation.ts'
import type { Operation, Walked } from './operation.ts'
import { writeBytes } from './transfer.ts'
import type { OpenFid } from './transfer.ts'
import type { OpenMode, Tree } from './tree.ts'
import { forAll } from './turns.ts'
import type { Turns } from './turns.ts'

/** What a change leaves. */
export interface Changed {
  readonly stat: Stat
  readonly created: boolean
}

/** A file opened or made. Whoever has it releases the fid. */
export interface OpenedFile extends OpenFid, Walked {
  readonly created: boolean
}

export interface MakeOptions {
  /** `open` what is there, or fail; `make` what is missing too; `exclusive`: only that. */
  readonly making: 'open' | 'make' | 'exclusive'
  readonly parents?: boolean | undefined
  readonly permissions?: number | undefined
  readonly mode: OpenMode
}

const file_mode = 0o644
const directory_mode = 0o755
/** Somebody makes and removes the file all the time. */
const make_attempts_max = 8
/** Trees and parents done at once. */
const removals_max = 16

/** G1 @throws NineError `not_found`, `exists` when exclusive, `is_directory`, `invalid` for a link */
export async function openOrMake(o: Operation, tree: Tree, path: Path, options: MakeOptions): Promise<OpenedFile> {
  const { making, mode, permissions = file_mode } = options
  for (let attempt = 1; ; attempt++) {
    const found = making === 'exclusive' && path !== '/' ? undefined : await walkIfThere(o, path, making !== 'open')
    if (found !== undefined) return openFound(o, tree, found, options)
    const parent = await parentFor(o, tree, path, options.parents)
    try {
      const { qid, iounit } = await tree.create(o, parent.fid, baseName(path), permissions, mode)
      return { fid: parent.fid, qid, iounit, created: true }
    } catch (error) {
      parent.fid.release()
      if (making === 'exclusive' || attempt === make_attempts_max || !isNineError(error, 'exists')) throw error
    }
  }
}

async function openFound(o: Operation, tree: Tree, found: Walked, { making, mode }: MakeOptions): Promise<OpenedFile> {
  try {
    if (making === 'exclusive') throw o.error('exists', 'it exists')
    needFile(o, found)
    return { ...found, iounit: await tree.open(o, found.fid, mode), created: false }
  } catch (error) {
    found.fid.release()
    throw error
  }
}

export function needFile(o: Operation, { qid }: Walked): void {
  if (isDirectory(qid)) throw o.error('is_directory', 'it is a directory')
  if (isLink(qid)) throw o.error('invalid', 'it is a symbolic link')
}

async function walkIfThere(o: Operation, path: Path, mayMiss: boolean): Promise<Walked | undefined> {
  try {
    return await o.walk(path)
  } catch (error) {
    if (mayMiss && isNineError(error, 'not_found')) return undefined
    throw error
  }
}

/** The directory `path` stands in, made where it is missing and that is asked for. */
async function parentFor(o: Operation, tree: Tree, path: Path, parents: boolean | undefined): Promise<Walked> {
  if (parents !== true) return o.walkParent(path)
  const there = await walkIfThere(o, parentPath(path), true)
  if (there !== undefined) {
    if (isDirectory(there.qid)) return there
    there.fid.release()
    throw o.error('not_directory', `${parentPath(path)} is no directory`)
  }
  let at = await o.walk('/' as Path)
  for (const name of pathComponents(parentPath(path))) {
    const above = at
    try {
      at = await stepOrMake(o, tree, above, name)
    } finally {
      above.fid.release()
    }
  }
  return at
}

async function stepOrMake(o: Operation, tree: Tree, above: Walked, name: string): Promise<Walked> {
  for (let attempt = 1; ; attempt++) {
    try {
      return await o.walkFrom(above.fid, above.qid, [name])
    } catch (error) {
      if (attempt === make_attempts_max || !isNineError(error, 'not_found')) throw error
    }
    await makeDirectory(o, tree, above, name, directory_mode).catch((error: unknown) => {
      if (!isNineError(error, 'exists')) throw error
    })
  }
}

/** In a fid of its own: 9P2000 opens what it makes. */
function makeDirectory(o: Operation, tree: Tree, parent: Walked, name: string, permissions: number): Promise<void> {
  return o.with(o.walkFrom(parent.fid, parent.qid, []), ({ fid }) => tree.mkdir(o, fid, name, permissions))
}

/** Conditions of `ifMatch: 'none'` are told as `conflict`. */
async function asCondition<T>(o: Operation, options: CreateOptions, act: () => Promise<T>): Promise<T> {
  try {
    return await act()
  } catch (error) {
    if (options.ifMatch === 'none' && isNineError(error, 'exists')) throw o.error('conflict', 'it exists')
    throw error
  }
}

export async function writeFile(o: Operation, tree: Tree, turns: Turns, bytes: Uint8Array, options: WriteOptions): Promise<Changed> {
  const { at = 'replace', mustExist, parents, mode, modifiedAt } = options
  const making = options.ifMatch === 'none' ? 'exclusive' : mustExist === true ? 'open' : 'make'
  const isAppend = at === 'append'
  const openMode = { read: false, write: true, truncate: at === 'replace', append: isAppend && tree.canAppend }
  return asCondition(o, options, () =>
    o.with(openOrMake(o, tree, o.path, { making, parents, permissions: mode, mode: openMode }), async (file) => {
      if (isAppend) await append(o, tree, turns, file, bytes)
      else if (bytes.length > 0) await writeBytes(o, file, bytes, at === 'replace' ? 0 : at)
      const later = { mode: file.created ? undefined : mode, modifiedAt }
      if (later.mode !== undefined || modifiedAt !== undefined) await tree.change(o, file, later)
      await tree.sync(o, file.fid)
      return { stat: await tree.stat(o, file.fid, baseName(o.path)), created: file.created }
    }),
  )
}

/** To the end of a file as it is: where the server does not do that itself, one after the other for this client. G3 @returns where it ends */
export async function append(o: Operation, tree: Tree, turns: Turns, file: OpenedFile, bytes: Uint8Array): Promise<void> {
  if (tree.canAppend) return writeBytes(o, file, bytes, 0, true)
  await turns.run(`append ${file.qid.path}`, async () => {
    const { size = 0 } = await tree.stat(o, file.fid, '')
    await writeBytes(o, file, bytes, size)
  })
}

export function createFile(o: Operation, tree: Tree, options: CreateOptions): Promise<Changed> {
  const { parents, mode: permissions, modifiedAt } = options
  const mode = { read: false, write: true }
  return asCondition(o, options, () =>
    o.with(openOrMake(o, tree, o.path, { making: 'exclusive', parents, permissions, mode }), async (file) => {
      if (modifiedAt !== undefined) await tree.change(o, file, { modifiedAt })
      await tree.sync(o, file.fid)
      return { stat: await tree.stat(o, file.fid, baseName(o.path)), created: true }
    }),
  )
}

export function makeNamed(o: Operation, tree: Tree, options: CreateOptions, target?: string): Promise<Changed> {
  const name = baseName(o.path)
  return asCondition(o, options, async () => {
    if (name === '') throw o.error('exists', 'it is the root')
    return o.with(parentFor(o, tree, o.path, options.parents), async (parent) => {
      if (target === undefined) await makeDirectory(o, tree, parent, name, options.mode ?? directory_mode)
      else await tree.symlink(o, parent.fid, name, target)
      return o.with(o.walkFrom(parent.fid, parent.qid, [name]), async (made) => {
        if (options.modifiedAt !== undefined) await tree.change(o, made, { modifiedAt: options.modifiedAt })
        return { stat: await tree.stat(o, made.fid, name), created: true }
      })
    })
  })
}

export async function removeFile(o: Operation, tree: Tree, isRecursive: boolean): Promise<Changed> {
  const name = baseName(o.path)
  if (name === '') throw o.error('invalid', 'the root cannot be removed')
  return o.with(o.walkParent(), (parent) =>
    o.with(o.walkFrom(parent.fid, parent.qid, [name]), async (file) => {
      const stat = await tree.stat(o, file.fid, name)
      if (isRecursive && isDirectory(file.qid)) await removeBelow(o, tree, file, 1)
      await tree.remove(o, parent.fid, name, file)
      return { stat, created: false }
    }),
  )
}

/** G2 */
async function removeBelow(o: Operation, tree: Tree, directory: Walked, depth: number): Promise<void> {
  if (depth > limits.path_bytes_max) throw o.error('loop', 'the directories of the server have no end')
  const names = await o.with(o.walkFrom(directory.fid, directory.qid, []), ({ fid }) => tree.names(o, fid))
  const below = names.filter(({ name }) => isName(name))
  await forAll(below, depth === 1 ? removals_max : 1, async ({ name }) => {
    try {
      await o.with(o.walkFrom(directory.fid, directory.qid, [name]), async (file) => {
        if (isDirectory(file.qid)) await removeBelow(o, tree, file, depth + 1)
        await tree.remove(o, directory.fid, name, file)
      })
    } catch (error) {
      if (!isNineError(error, 'not_found')) throw error // Somebody else removed it.
    }
  })
}

/** What a server lists that is no entry, or that no path can name. */
export function isName(name: string): boolean {
  return name !== '' && name !== '.' && name !== '..' && !name.includes('/') && Buffer.byteLength(name) <= limits.name_bytes_max
}

export function renameFile(o: Operation, tree: Tree, turns: Turns, to: Path, options: RenameOptions): Promise<Changed> {
  const from = o.path
  if (from === '/') throw o.error('invalid', 'the root cannot be moved')
  return turns.run('rename', () =>
    // G3
    o.with(o.walkParent(), (parent) =>
      o.with(o.walkFrom(parent.fid, parent.qid, [baseName(from)]), async (file) => {
        const stat = await tree.stat(o, file.fid, baseName(to))
        if (to === from) return { stat, created: false }
        if (isWithin(to, from)) throw o.error('invalid', 'a directory cannot be moved into itself')
        if (to === '/') throw o.error('exists', 'it is the root')
        return o.with(parentFor(o, tree, to, options.parents), async (target) => {
          if (!tree.canMove && parentPath(to) !== parentPath(from)) {
            throw o.error('unsupported', 'this 9P server moves nothing to another directory: copy and remove')
          }
          await makeWay(o, tree, target, to, file, options.replace === true)
          await tree.rename(o, { parent: parent.fid, name: baseName(from), file }, { parent: target.fid, name: baseName(to) })
          return { stat, created: false }
        })
      }),
    ),
  )
}

/** What stands where a rename goes makes way, or refuses. */
async function makeWay(o: Operation, tree: Tree, parent: Walked, to: Path, file: Walked, mayReplace: boolean): Promise<void> {
  const name = baseName(to)
  const there = await o.walkFrom(parent.fid, parent.qid, [name]).catch((error: unknown) => {
    if (isNineError(error, 'not_found')) return undefined
    throw error
  })
  if (there === undefined) return
  try {
    if (!mayReplace) throw o.error('exists', `${to} exists`)
    if (isDirectory(there.qid) && !isDirectory(file.qid)) throw o.error('is_directory', `${to} is a directory`)
    if (!isDirectory(there.qid) && isDirectory(file.qid)) throw o.error('not_directory', `${to} is no directory`)
    if (!tree.canReplace) await tree.remove(o, parent.fid, name, there)
  } finally {
    there.fid.release()
  }
}

export function changeStat(o: Operation, tree: Tree, changes: StatChanges): Promise<Changed> {
  const { size, mode, owner, group, modifiedAt } = changes
  return o.with(o.walk(), async (file) => {
    if (size !== undefined) needFile(o, file)
    if ([size, mode, owner, group, modifiedAt].some((each) => each !== undefined)) {
      await tree.change(o, file, { size, mode, owner, group, modifiedAt })
    }
    return { stat: await tree.stat(o, file.fid, baseName(o.path)), created: false }
  })
}
