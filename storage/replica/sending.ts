/**
 * A snapshot of a store that is made for other nodes: written to a file of this node, and read by one or more while it grows.
 *
 * O1 Its file is there as long as someone reads it. With the last of them it goes, and writing it ends.
 * O2 Writing it ends with the node too, which does not wait for the rest; who reads it then is told.
 */
import { rm } from 'node:fs/promises'
import type { Clock } from '../../namespace/clock.ts'
import { NineError } from '../../namespace/errors.ts'
import { failpoint } from '../../namespace/failpoint.ts'
import type { Random } from '../../namespace/random.ts'
import type { Configuration, SnapshotMeta } from '../../raft/index.ts'
import type { StoreRow } from '../engine/folder.ts'
import type { Lane } from '../engine/lane.ts'
import type { SnapshotHeader } from '../snapshot/format.ts'
import { GrowingFile } from '../snapshot/growing-file.ts'
import { writeSnapshot } from '../snapshot/write.ts'
import { isPlaceRow, placeOf } from './place.ts'

export interface SendingParts {
  readonly lane: Lane
  readonly row: StoreRow
  /** Where its file goes. */
  readonly path: string
  readonly clock: Clock
  readonly random: Random
  /** It was begun, and is as of this index. */
  readonly begun: (index: number) => void
  /** Nobody reads it any more, or it could not be written. */
  readonly ended: () => void
}

interface Begun {
  readonly id: string
  readonly meta: SnapshotMeta
}

export class Sending {
  readonly #parts: SendingParts
  readonly #stop = new AbortController()
  readonly #begun: Promise<Begun>
  /** Resolves when nothing is written any more; why not all of it. */
  readonly #written: Promise<unknown>
  #file: GrowingFile | undefined
  #readers = 0

  constructor(parts: SendingParts) {
    this.#parts = parts
    let begin!: (begun: Begun) => void
    let fail!: (error: unknown) => void
    this.#begun = new Promise<Begun>((resolve, reject) => {
      begin = resolve
      fail = reject
    })
    // Told to who opens it.
    this.#begun.catch(() => undefined)
    this.#written = this.#write(begin).catch((error: unknown) => {
      fail(error)
      parts.ended()
      return error
    })
  }

  /** Read it from here on, once it has begun. @throws NineError as writeSnapshot */
  async open(): Promise<OutgoingSource> {
    this.#readers++
    try {
      const { id, meta } = await this.#begun
      return new OutgoingSource(id, meta, this.#file!, () => this.#leave())
    } catch (error) {
      await this.#leave()
      throw error
    }
  }

  /** Write no more of it; resolves when nothing is written any more. O2 */
  async end(): Promise<void> {
    this.#stop.abort(new NineError({ kind: 'unavailable', op: 'replica.snapshot', message: 'the node that sends this snapshot is ending' }))
    await this.#written
  }

  async #write(begin: (begun: Begun) => void): Promise<void> {
    const { lane, row, path, clock, random, begun } = this.#parts
    await lane.save()
    this.#stop.signal.throwIfAborted()
    failpoint('snapshot.write.before')
    const file = (this.#file = await GrowingFile.open(path, { isDurable: false })) // gone after a crash, as who reads it is
    const { id: store, incarnation, name, owner } = row
    const onHeader = ({ index, term, configuration }: SnapshotHeader): void => {
      const meta = { index, term, configuration: JSON.parse(Buffer.from(configuration).toString()) as Configuration }
      begun(index)
      begin({ id: `${index}-${term}-${random.id()}`, meta })
    }
    try {
      await writeSnapshot(lane.tree, { store, incarnation, name, owner, group: lane.group }, file, {
        describe: (rowOf) => {
          const { term, configuration } = placeOf(rowOf, name)
          return { term, configuration: Buffer.from(JSON.stringify(configuration)) }
        },
        isLocal: (key) => key === 'log' || key === 'logId' || isPlaceRow(key),
        onHeader,
        progress: () => failpoint('snapshot.write.block'),
        signal: this.#stop.signal,
        clock,
      })
      failpoint('snapshot.write.after')
      await file.end()
    } catch (error) {
      throw file.fail(error as Error)
    }
  }

  /** O1 */
  async #leave(): Promise<void> {
    if (--this.#readers > 0) return
    this.#parts.ended()
    this.#stop.abort(new NineError({ kind: 'unavailable', op: 'replica.snapshot', message: 'nobody reads this snapshot any more' }))
    await this.#written
    await this.#file?.close()
    await rm(this.#parts.path, { force: true })
  }
}

/** Reads what is being sent. */
export class OutgoingSource {
  /** Names these very bytes. */
  readonly id: string
  readonly meta: SnapshotMeta
  readonly #file: GrowingFile
  readonly #leave: () => Promise<void>

  constructor(id: string, meta: SnapshotMeta, file: GrowingFile, leave: () => Promise<void>) {
    this.id = id
    this.meta = meta
    this.#file = file
    this.#leave = leave
  }

  /** Bytes there are so far. */
  get size(): number {
    return this.#file.length
  }

  /** Whether these are all. */
  get isWhole(): boolean {
    return this.#file.isEnded
  }

  /** Up to `length` bytes from `offset` on, as soon as there are some; none: it ends there. @throws NineError */
  async read(offset: number, length: number): Promise<Uint8Array> {
    failpoint('snapshot.send')
    const bytes = Buffer.allocUnsafeSlow(length)
    return bytes.subarray(0, await this.#file.read(bytes, offset))
  }

  async close(): Promise<void> {
    await this.#leave()
  }
}
