/**
 * What a node of a cluster tells its clients: which nodes lead the stores they see, and where they find them.
 *
 * W1 A client is told when its session begins, and at each change within about `look_ms`; one that follows nothing costs nothing.
 * W2 A path is told of only where the session's table leads there, whole, to the store that all nodes have there: what a session
 *    mounted itself is at its own node alone.
 */
import type { FileServer } from '../../namespace/file-server.ts'
import { parsePath } from '../../namespace/path.ts'
import type { Path } from '../../namespace/path.ts'
import type { Tell } from '../../namespace/remote/handshake.ts'
import type { ClusterState, NodeAddress } from '../../namespace/wire/session.ts'

/** A store that all nodes have at the same path. */
export interface SharedRoot {
  readonly path: Path
  readonly server: FileServer
  /** Name of the node that leads it, '' when none is known, and in which term. */
  readonly leader: () => Leader
}

export interface Leader {
  readonly name: string
  readonly term: number
}

/** Part of Namespace. */
export interface Table {
  isWhole(path: Path, server: FileServer): boolean
}

const look_ms = 50

export class ClusterNews {
  readonly #roots: readonly SharedRoot[]
  readonly #nodes: () => readonly NodeAddress[]
  readonly #followers = new Set<Follower>()
  #told = ''
  #timer: NodeJS.Timeout | undefined

  /** @param nodes where nodes listen for clients; a new array when it changes */
  constructor(roots: readonly SharedRoot[], nodes: () => readonly NodeAddress[]) {
    this.#roots = roots
    this.#nodes = nodes
  }

  /** W1 */
  follow(table: Table, tell: Tell): Follower {
    const follower = new Follower(
      () => tell(this.#stateOf(table)),
      () => this.#left(follower),
    )
    this.#followers.add(follower)
    if (this.#timer === undefined) {
      this.#told = this.#now()
      this.#timer = setInterval(() => this.#look(), look_ms)
      this.#timer.unref()
    }
    follower.tell()
    return follower
  }

  close(): void {
    clearInterval(this.#timer)
    this.#followers.clear()
  }

  #left(follower: Follower): void {
    this.#followers.delete(follower)
    if (this.#followers.size > 0) return
    clearInterval(this.#timer)
    this.#timer = undefined
  }

  #look(): void {
    const now = this.#now()
    if (now === this.#told) return
    this.#told = now
    for (const follower of this.#followers) follower.tell()
  }

  #now(): string {
    let text = ''
    for (const { leader } of this.#roots) text += `${leader().name} ${leader().term} `
    for (const { name, address } of this.#nodes()) text += `${name}=${address} `
    return text
  }

  /** W2 */
  #stateOf(table: Table): ClusterState {
    const roots = this.#roots.filter(({ path, server }) => table.isWhole(path, server))
    return { roots: roots.map(({ path, leader }) => ({ path, leader: leader().name, term: leader().term })), nodes: this.#nodes() }
  }
}

/** One session that is told. */
export class Follower {
  readonly tell: () => void
  readonly close: () => void

  constructor(tell: () => void, close: () => void) {
    this.tell = tell
    this.close = close
  }
}

/** Where clients reach a node that listens at `grpc`: on every address means the host by which its peers reach it. */
export function clientAddress(grpc: string, peer: string): string {
  const everywhere = /^(?:0\.0\.0\.0|\[::\]):(\d+)$/.exec(grpc)
  return everywhere === null ? grpc : `${peer.slice(0, peer.lastIndexOf(':'))}:${everywhere[1]!}`
}

/** The stores that all nodes of a cluster have at the same paths. */
export function sharedRoots(stores: Readonly<Record<string, FileServer>>, leaderOf: (store: string) => Leader): SharedRoot[] {
  return Object.entries(stores).map(([name, server]) => ({ path: parsePath(`/${name}`), server, leader: () => leaderOf(name) }))
}
