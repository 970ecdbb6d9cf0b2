/** What an engine says of itself. */
import type { BlobStats } from '../blob/store.ts'
import type { WalReport } from '../wal/wal.ts'

export interface StoreStatus {
  readonly name: string
  readonly id: string
  readonly incarnation: string
  readonly revision: number
  readonly appliedIndex: number
  readonly overlayBytes: number
  readonly handles: number
  readonly watchers: number
  /** What keeps it from changing, and is tried again. */
  readonly trouble: string | undefined
}

export interface EngineStatus {
  /** Whether mutations are taken. */
  readonly isWritable: boolean
  /** Why not. */
  readonly failure: string | undefined
  /** The last failure of background work, which is tried again. */
  readonly warning: string | undefined
  readonly waiting: number
  readonly replayed: number
  readonly wal: WalReport
  readonly blobs: BlobStats
  readonly stores: readonly StoreStatus[]
}
