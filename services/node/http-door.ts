/**
 * The HTTP edge of a node from the beginning of its start, which may take long in a cluster: until the node serves, /readyz says no and
 * every request is `unavailable` with what is being waited for.
 */
import { NineError } from '../../namespace/errors.ts'
import type { FileServer } from '../../namespace/file-server.ts'
import type { Principal } from '../../namespace/rights.ts'
import { startHttpEdge } from '../http/edge.ts'
import type { HttpEdge, HttpEdgeOptions } from '../http/edge.ts'

/** What it serves from, once there is something. */
export interface Serving {
  authenticate(token: string | undefined): Principal
  namespaceOf(principal: Principal): Promise<FileServer>
  isReady(): boolean
  /** Why not, where this node can tell. */
  failure(): string | undefined
}

export class HttpDoor {
  /** What the node waits for. */
  waiting = 'the node is starting'
  serving: Serving | undefined
  #edge: HttpEdge | undefined
  #closing: Promise<void> | undefined

  /** @throws NineError `unavailable` when the address cannot be had */
  static async open(options: Omit<HttpEdgeOptions, keyof Serving>): Promise<HttpDoor> {
    const door = new HttpDoor()
    door.#edge = await startHttpEdge({
      ...options,
      authenticate: (token) => door.#behind().authenticate(token),
      namespaceOf: async (principal) => door.#behind().namespaceOf(principal),
      isReady: () => door.serving?.isReady() === true,
      notReady: () => (door.serving === undefined ? door.waiting : door.serving.failure()),
    })
    return door
  }

  /** `HOST:PORT` that it listens on. */
  get address(): string {
    return this.#edge!.address
  }

  /** As an edge's; the first call decides how long what is under way may take. */
  close(graceMs: number): Promise<void> {
    return (this.#closing ??= this.#edge!.close(graceMs))
  }

  #behind(): Serving {
    if (this.serving !== undefined) return this.serving
    throw new NineError({ kind: 'unavailable', op: 'node.start', message: this.waiting })
  }
}
