/**
 * The fids of one connection: numbers its client chose for files, each with what is open through it.
 *
 * D1 A number is taken from the moment a request names it as new until it is clunked, so that no two files share one. A request that
 *    was flushed, or of a version before, has lost it, and leaves alone whatever has it by then.
 * D2 Whatever a fid holds (handle, locks, a file to remove) is let go once, by clunk, remove, a new version or the end of the connection.
 * D3 A fid knows its file by path until it is open, and by handle from then on. A rename over this connection takes the paths of its
 *    fids along; one that somebody else made leaves them behind, and `identity` tells.
 */
import type { Context } from '../../namespace/context.ts'
import type { FileServer, HandleId } from '../../namespace/file-server.ts'
import type { Owners } from '../../namespace/owners.ts'
import { isWithin, joinPath, relativePath } from '../../namespace/path.ts'
import type { Path } from '../../namespace/path.ts'
import type { Principal } from '../../namespace/rights.ts'
import type { FileKind } from '../../namespace/stat.ts'
import { noFid } from '../../proto/ninep/messages.ts'
import type { DirectoryStream } from './directory.ts'
import { attributeChange } from './extended-attributes.ts'
import { refusal } from './failures.ts'
import type { NinepLimits } from './limits.ts'

/** What an attach gave: a tree as one principal sees it. */
export interface Root {
  readonly server: FileServer
  readonly principal: Principal
  /** Where in the namespace it begins; `..` goes no further. */
  readonly path: Path
  readonly owners: Owners
}

export interface OpenFile {
  readonly type: 'file'
  readonly handle: HandleId
  readonly isReadable: boolean
  readonly isWritable: boolean
  /** Writes go to the end, whatever offset they name. */
  readonly isAppending: boolean
  /** A read may wait for as long as its service likes: streams, calls, computed files. */
  readonly isSlow: boolean
}

/** Bytes that were asked for whole: a link's target in 9P2000, an extended attribute. */
export interface OpenBytes {
  readonly type: 'bytes'
  readonly bytes: Buffer
}

/** An extended attribute being written; set at clunk. */
export interface OpenAttribute {
  readonly type: 'attribute'
  readonly name: string
  readonly value: Buffer
  /** Highest byte written so far. */
  written: number
}

export type Opened = OpenFile | OpenBytes | OpenAttribute | { readonly type: 'directory'; readonly stream: DirectoryStream }

export class Fid {
  readonly id: number
  readonly root: Root
  path: Path
  kind: FileKind
  /** The wire's qid path of the file it was walked to. */
  identity: number
  opened: Opened | undefined
  isRemovedOnClose = false
  /** Being opened by a request under way. */
  isOpening = false
  /** Requests on it under way: clunk waits for them, and gives up those that may wait for ever. */
  readonly pending = new Set<Pending>()

  constructor(id: number, root: Root, path: Path, kind: FileKind, identity: number) {
    this.id = id
    this.root = root
    this.path = path
    this.kind = kind
    this.identity = identity
  }
}

/** A request under way, as its fid sees it. */
export interface Pending {
  readonly done: Promise<unknown>
  /** Give it up; undefined for one that has to finish. */
  readonly giveUp: (() => void) | undefined
}

/** An afid: the token written to it so far. */
export interface AuthFid {
  readonly uname: string
  readonly aname: string
  token: Buffer
}

/** A number that a request under way makes a fid of. */
export interface Reservation {
  readonly id: number
}

export class Fids {
  readonly #limits: NinepLimits
  readonly #fids = new Map<number, Fid>()
  readonly #auth = new Map<number, AuthFid>()
  readonly #reserved = new Map<number, Reservation>() // D1

  constructor(limits: NinepLimits) {
    this.#limits = limits
  }

  get size(): number {
    return this.#fids.size + this.#auth.size + this.#reserved.size
  }

  /** @throws NineError `invalid` */
  get(id: number): Fid {
    const fid = this.#fids.get(id)
    if (fid === undefined) throw refusal('invalid', `fid ${id} is not known`)
    return fid
  }

  getAuth(id: number): AuthFid | undefined {
    return this.#auth.get(id)
  }

  /** Take a number for a request that will make a fid of it. @throws NineError `invalid` (in use), `overloaded` */ // D1
  reserve(id: number): Reservation {
    if (id === noFid) throw refusal('invalid', 'that number stands for no fid')
    if (this.#fids.has(id) || this.#auth.has(id) || this.#reserved.has(id)) throw refusal('invalid', `fid ${id} is in use`)
    const { ninep_fids_max: max } = this.#limits
    if (this.size >= max) throw refusal('overloaded', `a connection has at most ${max} fids`)
    const reservation = { id }
    this.#reserved.set(id, reservation)
    return reservation
  }

  /** No fid is made. */
  cancel(reservation: Reservation): void {
    if (this.#reserved.get(reservation.id) === reservation) this.#reserved.delete(reservation.id)
  }

  /** Make the fid, where its number was not lost meanwhile. */
  add(fid: Fid, reservation: Reservation): void {
    if (this.#reserved.get(reservation.id) !== reservation) return
    this.#reserved.delete(reservation.id)
    this.#fids.set(fid.id, fid)
  }

  /** @throws NineError `invalid` (in use), `overloaded` */
  addAuth(id: number, auth: AuthFid): void {
    const { ninep_auth_fids_max: max } = this.#limits
    if (this.#auth.size >= max) throw refusal('overloaded', `a connection has at most ${max} authentications`)
    this.cancel(this.reserve(id))
    this.#auth.set(id, auth)
  }

  deleteAuth(id: number): boolean {
    return this.#auth.delete(id)
  }

  /** Its number is free, unless another has it by now. */
  delete(fid: Fid): void {
    if (this.#fids.get(fid.id) === fid) this.#fids.delete(fid.id)
  }

  /** All of them, no longer held. */
  takeAll(): Fid[] {
    const all = [...this.#fids.values()]
    this.#fids.clear()
    this.#auth.clear()
    this.#reserved.clear()
    return all
  }

  /** D3 */
  renamed(server: FileServer, from: Path, to: Path): void {
    for (const fid of this.#fids.values()) {
      if (fid.root.server === server && isWithin(fid.path, from)) fid.path = joinPath(to, relativePath(fid.path, from))
    }
  }
}

/**
 * Let go of what `fid` holds: its file is published, its attribute set, and the file removed where its opener asked for that.
 *
 * @param checkPath that the fid's file stands at its path still @throws NineError what `checkPath` throws
 */ // D2
export async function letGo(fid: Fid, context: Context, checkPath: () => Promise<void>): Promise<void> {
  const { opened, root, isRemovedOnClose } = fid
  fid.opened = undefined
  fid.isRemovedOnClose = false
  try {
    if (opened?.type === 'file') await root.server.closeHandle(context, opened.handle)
    if (opened?.type === 'attribute') {
      checkWhole(fid, opened)
      await checkPath()
      await root.server.setStat(context, fid.path, attributeChange(opened.name, opened.value))
    }
  } finally {
    if (isRemovedOnClose) {
      await checkPath()
      await root.server.remove(context, fid.path)
    }
  }
}

function checkWhole({ path }: Fid, { name, value, written }: OpenAttribute): void {
  if (written < value.length) throw refusal('invalid', `${name} has ${value.length} bytes, of which ${written} were written`, path)
}
