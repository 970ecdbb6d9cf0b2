/**
 * How changes get into the node's log and are applied. Alone: pipeline.ts, which appends and applies. As a member of a cluster:
 * replica/member.ts, which has them agreed on first.
 */
import type { Context } from '../../namespace/context.ts'
import type { NineError } from '../../namespace/errors.ts'
import type { BlobPins } from '../blob/pins.ts'
import type { BlobStore } from '../blob/store.ts'
import type { Outcome, RestoreCommand } from '../model.ts'
import type { Proposer } from '../store/core.ts'
import type { Replication } from '../store/replication.ts'
import type { Environment } from '../tree/environment.ts'
import type { Wal } from '../wal/wal.ts'
import type { StoreRow } from './folder.ts'
import type { Lane } from './lane.ts'

export interface WriterStatus {
  /** Proposals that are not answered. */
  readonly waiting: number
  /** Why no more are taken until the folder is opened anew. */
  readonly failure: NineError | undefined
  /** Why none are taken for now. */
  readonly refused: NineError | undefined
}

export interface RestoreParts {
  readonly environment: Environment
  readonly blobs: BlobStore
  readonly pins: BlobPins
}

export interface Writer {
  /** The log's onDurable and onFailed. */
  readonly durable: (lsn: number) => void
  readonly failed: (from: number, to: number, error: NineError) => void
  readonly status: WriterStatus
  /** A lane was opened, and `meta` are the rows of its last checkpoint. Before `start` or `add`. */
  opened(lane: Lane, row: StoreRow, meta: Iterable<readonly [string, Uint8Array]>): void
  /**
   * Bring the lanes to where the log is, as far as it says what was agreed on. Gives the number of entries that were applied.
   * @throws NineError `corrupt`
   */
  start(wal: Wal, lanes: ReadonlyMap<number, Lane>): Promise<number>
  /** A lane made after the start. */
  add(lane: Lane): Promise<void>
  proposerFor(lane: Lane): Proposer
  replicationFor(lane: Lane): Replication | undefined
  /** Put the state of a backup, whose chunks are there, in the place of the lane's. What it could not make is its outcome. @throws NineError as propose */
  restore(lane: Lane, context: Context, command: RestoreCommand, parts: RestoreParts): Promise<Outcome>
  /** The log is about to be cut: see to it that, next time, what is needed of it is near its end. */
  beforeCut(): void
  /** Number in the log of the first record that is needed yet, given what is saved of the lanes. */
  firstNeeded(): number
  /** Let proposals wait, or go on, in their order. */
  hold(isHolding: boolean): void
  /** Take nothing while there is a reason. */
  refuse(reason: NineError | undefined): void
  /** The log is about to be closed: take nothing more. */
  close(): void
  /** Apply all that is durable and may be applied; the log is closed. */
  settleAll(): void
  /** Resolves when nothing of it uses the folder any more. */
  ended(): Promise<void>
}
