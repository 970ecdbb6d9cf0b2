/** A mount of a directory of the namespace, by whichever way this machine has: what `bridge.ts` and `kernel.ts` have in common. */
import type { Path } from '../../namespace/path.ts'
import type { Client } from '../../sdk/client-api.ts'

export interface MountRequest {
  readonly client: Client
  readonly path: Path
  /** Real path of an empty folder. */
  readonly folder: string
  readonly isReadOnly: boolean
  /** Other users of this machine may use it too, within the files' modes. */
  readonly isForOthers: boolean
  /** No page cache: streams work, every read asks the node. */
  readonly isDirect: boolean
  /** Of one operation, milliseconds. */
  readonly timeoutMs: number
}

export interface Mount {
  readonly via: '9p' | 'fuse'
  /** Take it away, if it still is there, and publish what is open. Gives the paths of files whose last writes could not be. */
  end(): Promise<readonly string[]>
}
