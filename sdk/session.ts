/** What connect() gives: a client on the session's namespace, the means to change that namespace, and the end of it. */
import type { NodesStatus } from '../namespace/remote/nodes.ts'
import type { Client } from './client-api.ts'

/** Its functions may be taken out of it: `const { client, close } = await connect()`. */
export interface Session {
  readonly client: Client
  readonly namespace: NamespaceControl
  /** A request to the node that is no file operation, for example `token.create`. */
  readonly control: (name: string, value: unknown) => Promise<unknown>
  /** Its connections: which node is used for what, and why one was left. */
  readonly status: () => NodesStatus
  readonly close: () => Promise<void>
}

/** `replace`: instead of what is there; `before` and `after`: a union with it, found first or last. */
export type MountOrder = 'replace' | 'before' | 'after'

export interface MountOptions {
  readonly order?: MountOrder
  /** New files of the union are made here. */
  readonly create?: boolean
}

/** The table of this session alone: no other session sees its changes. */
export interface NamespaceControl {
  /** Show `source` at `path` as well. @throws NineError `not_found`, `too_large` past limits.mounts_max */
  bind(source: string, path: string, options?: MountOptions): Promise<void>
  /** Show a service (`NAME`) or another node's tree (`nine://HOST:PORT[/PATH]`) at `path`. */
  mount(source: string, path: string, options?: MountOptions): Promise<void>
  /** Undo what stands at `path`; with `source`, only that member of the union. */
  unmount(path: string, source?: string): Promise<void>
  /** Mounts and binds in order; as lines of a namespace file. */
  entries(): Promise<readonly NamespaceEntry[]>
  /** Add a line to the saved namespace file of this principal, which its later sessions start from. */
  save(line: string): Promise<void>
}

export interface NamespaceEntry {
  /** A line of a namespace file; one that begins with '#' says what of the saved file failed. */
  readonly text: string
}
