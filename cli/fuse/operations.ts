/**
 * The operations of FUSE (fuse_operations of libfuse 2) over a FileServer: a directory of the namespace as a mount shows it.
 *
 * M1 What close(2) and fsync(2) have answered is durable at the node and visible to all.
 * M2 Rights are the server's to check, and so is everything it refuses: nothing is guessed from modes.
 * M3 Every operation ends by the session's deadline.
 */
import type { Context } from '../../namespace/context.ts'
import { isNineError, NineError } from '../../namespace/errors.ts'
import type { FileServer } from '../../namespace/file-server.ts'
import { limits } from '../../namespace/limits.ts'
import { joinPath, parentPath, parsePath } from '../../namespace/path.ts'
import type { Path } from '../../namespace/path.ts'
import { fileType, kindOfMode, modeOf } from '../../namespace/posix.ts'
import type { StatChanges } from '../../namespace/file-server.ts'
import type { Stat } from '../../namespace/stat.ts'
import { ownAttributeNames } from '../../namespace/own-attributes.ts'
import { attributeOf, checkSettable, contentTypeOf, fuseStat, isOwnAttribute } from './attributes.ts'
import type { FuseStat } from './attributes.ts'
import { ErrnoError } from './errno.ts'
import { HiddenFiles, isHiddenName } from './hidden-files.ts'
import { OpenFiles } from './open-files.ts'
import type { Owners } from '../../namespace/owners.ts'

export interface FuseTree {
  readonly server: FileServer
  /** The directory that is mounted. */
  readonly root: Path
  readonly owners: Owners
  /** A Context for one request, with its deadline. */
  readonly context: () => Context
  /** A change that failed after it was answered. */
  readonly onFailure: (path: Path, error: unknown) => void
}

const permission_bits = 0o7777
/** What a name that is no UTF-8 comes as: two such names would be one. */
const replacement = '\ufffd'

export class FuseOperations {
  readonly #server: FileServer
  readonly #tree: FuseTree
  readonly #files: OpenFiles
  readonly #hidden: HiddenFiles

  constructor(tree: FuseTree) {
    this.#tree = tree
    this.#server = tree.server
    this.#files = new OpenFiles(tree.server, tree.context)
    this.#hidden = new HiddenFiles(tree.server, tree.context, tree.onFailure)
  }

  async getattr(name: string): Promise<FuseStat> {
    const path = this.#path(name)
    return this.#shown(path, await this.#stat(path))
  }

  async fgetattr(name: string, number: number): Promise<FuseStat> {
    return this.#shown(this.#path(name), await this.#files.stat(number))
  }

  /** All names at once, which is all the binding can take. @throws NineError `too_large` past limits.fuse_names_max */
  async readdir(name: string): Promise<{ names: string[]; modes: number[] }> {
    const path = this.#path(name)
    await this.#hidden.settled(path)
    const names = ['.', '..']
    const modes: number[] = [fileType.directory, fileType.directory]
    let cursor: string | undefined
    do {
      const page = await this.#server.list(this.#tree.context(), path, { limit: limits.list_page_entries_max, cursor })
      for (const stat of page.entries) {
        names.push(stat.name)
        modes.push(modeOf(stat))
      }
      if (names.length > limits.fuse_names_max) {
        const message = `a directory of more than ${limits.fuse_names_max} names is not listed through a mount`
        throw new NineError({ kind: 'too_large', op: 'fuse.readdir', path, message })
      }
      cursor = page.next
    } while (cursor !== undefined)
    return { names, modes }
  }

  async readlink(name: string): Promise<string> {
    return (await this.#server.readlink(this.#tree.context(), this.#path(name))).target
  }

  /**
   * Files are made here and then opened: with FUSE's own create the binding loses the flags of open(2), O_APPEND and O_EXCL among them.
   * The kernel asks for a name it has just found missing. When somebody else made it meanwhile, ESTALE has it look again, and decide by
   * O_EXCL.
   */
  async mknod(name: string, mode: number): Promise<void> {
    const path = this.#path(name)
    if (kindOfMode(mode) !== 'file' && (mode & fileType.mask) !== 0) throw new ErrnoError('EPERM')
    await this.#hidden.settled(path)
    try {
      await this.#server.create(this.#tree.context(), path, { mode: mode & permission_bits })
    } catch (error) {
      throw isNineError(error, 'exists') ? new ErrnoError('ESTALE') : error
    }
  }

  async mkdir(name: string, mode: number): Promise<void> {
    const path = this.#path(name)
    await this.#hidden.settled(path)
    await this.#server.mkdir(this.#tree.context(), path, { mode: mode & permission_bits })
  }

  async symlink(target: string, name: string): Promise<void> {
    const path = this.#path(name)
    await this.#hidden.settled(path)
    await this.#server.symlink(this.#tree.context(), path, target)
  }

  async link(): Promise<never> {
    throw new ErrnoError('EPERM')
  }

  async unlink(name: string): Promise<void> {
    const path = this.#path(name)
    // The last of an open file that was removed before: its handle is closed already.
    if (isHiddenName(path) && !(await this.#exists(path))) return
    await this.#hidden.settled(path)
    await this.#server.remove(this.#tree.context(), path)
  }

  async rmdir(name: string): Promise<void> {
    const path = this.#path(name)
    await this.#hidden.settledBelow(path)
    await this.#server.remove(this.#tree.context(), path)
  }

  /** As rename(2): in one change, over a file or an empty directory. */
  async rename(fromName: string, toName: string): Promise<void> {
    const from = this.#path(fromName)
    const to = this.#path(toName)
    const isHiding = isHiddenName(to) && parentPath(to) === parentPath(from) && this.#files.find(from) !== undefined
    if (isHiding) await this.#hidden.hide(from)
    else {
      await this.#hidden.replaced(to)
      await this.#hidden.settledBelow(from)
      await this.#hidden.settledBelow(to)
      await this.#server.rename(this.#tree.context(), from, to, { replace: true })
    }
    this.#files.renamed(from, to)
  }

  /** What is so already is not changed: to look costs less than a change that is on disk when it answers. */
  async chmod(name: string, mode: number): Promise<void> {
    const bits = mode & permission_bits
    if ((await this.#stat(this.#path(name))).mode !== bits) await this.#setStat(name, { mode: bits })
  }

  async chown(name: string, uid: number, gid: number): Promise<void> {
    const { owners } = this.#tree
    const stat = await this.#stat(this.#path(name))
    const owner = owners.uidOf(stat.owner) === uid ? undefined : owners.ownerOf(uid)
    const group = owners.gidOf(stat.group) === gid ? undefined : owners.groupOf(gid)
    if (owner !== undefined || group !== undefined) await this.#setStat(name, { owner, group })
  }

  /** What was written before is published before, or its publication would be the later time. */
  async utimens(name: string, modifiedMs: number): Promise<void> {
    await this.#files.flushPath(this.#path(name))
    await this.#setStat(name, { modifiedAt: modifiedMs * 1000 })
  }

  async truncate(name: string, size: number): Promise<void> {
    const path = this.#path(name)
    await this.#hidden.settled(path)
    const open = this.#files.find(path, true)
    if (open !== undefined) return this.#files.truncate(open, size)
    // Through a handle, so that it comes after what others have written and not yet published.
    const context = this.#tree.context()
    const { handle } = await this.#server.open(context, path, { write: true, mode: 'shared' })
    try {
      await this.#server.truncateHandle(context, handle, size)
    } finally {
      await this.#server.closeHandle(context, handle)
    }
  }

  async ftruncate(number: number, size: number): Promise<void> {
    await this.#files.truncate(number, size)
  }

  async open(name: string, flags: number): Promise<number> {
    const path = this.#path(name)
    await this.#hidden.settled(path)
    try {
      return await this.#files.open(path, flags)
    } catch (error) {
      // The kernel knew a name that somebody else removed: have it look again, and make the file if it was asked to.
      throw isNineError(error, 'not_found') ? new ErrnoError('ESTALE') : error
    }
  }

  /** Fills `buffer` as far as the file goes. */
  async read(number: number, buffer: Uint8Array, length: number, offset: number): Promise<number> {
    const bytes = await this.#files.read(number, offset, length)
    buffer.set(bytes)
    return bytes.length
  }

  async write(number: number, bytes: Uint8Array, offset: number): Promise<number> {
    return this.#files.write(number, bytes, offset)
  }

  /** At each close(2). */ // M1
  async flush(number: number): Promise<void> {
    await this.#files.flush(number)
  }

  async fsync(number: number): Promise<void> {
    await this.#files.sync(number)
  }

  /** Changes of directories are durable when they answer; a removal that waits is done first. */
  async fsyncdir(name: string): Promise<void> {
    await this.#hidden.settledBelow(this.#path(name))
  }

  async release(number: number): Promise<void> {
    await this.#files.close(number)
  }

  async getxattr(name: string, attribute: string): Promise<Buffer> {
    if (!isOwnAttribute(attribute)) throw new ErrnoError(attribute.startsWith('system.') ? 'EOPNOTSUPP' : 'ENODATA')
    return attributeOf(await this.#stat(this.#path(name)), attribute)
  }

  async listxattr(name: string): Promise<string[]> {
    return ownAttributeNames(await this.#stat(this.#path(name)))
  }

  async setxattr(name: string, attribute: string, value: Uint8Array, flags: number): Promise<void> {
    checkSettable(attribute)
    const contentType = contentTypeOf(value)
    if (flags !== 0) await this.#checkFlags(this.#path(name), attribute, flags)
    await this.#setStat(name, { contentType })
  }

  async removexattr(attribute: string): Promise<never> {
    checkSettable(attribute)
    throw new ErrnoError('EPERM')
  }

  /** The mount is gone: publish what is open. Gives the paths of files whose last writes could not be. */
  async close(): Promise<Path[]> {
    await this.#hidden.settledBelow(this.#tree.root)
    return this.#files.closeAll()
  }

  /** XATTR_CREATE and XATTR_REPLACE of setxattr(2). */
  async #checkFlags(path: Path, attribute: string, flags: number): Promise<void> {
    const isSet = ownAttributeNames(await this.#stat(path)).includes(attribute)
    if (flags === 1 && isSet) throw new NineError({ kind: 'exists', op: 'fuse.setxattr', path, message: `${attribute} is set` })
    if (flags === 2 && !isSet) throw new ErrnoError('ENODATA')
  }

  async #setStat(name: string, changes: StatChanges): Promise<void> {
    const path = this.#path(name)
    if (isHiddenName(path) && this.#files.find(path) !== undefined) throw new ErrnoError('EOPNOTSUPP')
    await this.#server.setStat(this.#tree.context(), path, changes)
  }

  async #stat(path: Path): Promise<Stat> {
    const open = isHiddenName(path) ? this.#files.find(path) : undefined
    if (open !== undefined) return this.#files.stat(open)
    await this.#hidden.settled(path)
    return (await this.#server.stat(this.#tree.context(), path)).stat
  }

  #shown(path: Path, stat: Stat): FuseStat {
    const isRemoved = isHiddenName(path) && this.#files.find(path) !== undefined
    const size = stat.size ?? this.#files.endOf(path)
    return fuseStat(size === stat.size ? stat : { ...stat, size }, this.#tree.owners, isRemoved ? 0 : 1)
  }

  async #exists(path: Path): Promise<boolean> {
    try {
      await this.#server.stat(this.#tree.context(), path)
      return true
    } catch (error) {
      if (isNineError(error, 'not_found')) return false
      throw error
    }
  }

  /** @throws ErrnoError `EILSEQ`, NineError `name_too_long` */
  #path(name: string): Path {
    if (name.includes(replacement)) throw new ErrnoError('EILSEQ')
    const { root } = this.#tree
    return root === '/' ? parsePath(name, 'fuse.path') : parsePath(joinPath(root, name as Path), 'fuse.path')
  }
}
