/**
 * History of one store: every revision it has made, in append-only segments, for watches that resume and for the past.
 *
 * H1 Revisions are dense: each append is the one after the last.
 * H2 Appending costs memory only. Bytes go to the file in the background, in order, and are on stable storage after sync().
 *    What was appended can be read at once.
 * H3 Opening brings history to exactly the revision of the tree's last checkpoint: what stands behind it is cut, for the
 *    log brings it again; history that ends before it is `corrupt`.
 * H4 Compaction drops whole segments, the oldest first, never the one that is written to.
 * H5 At most `loaded_max` sealed segments keep their index in memory.
 * H6 A sync that failed is never made up for: the system may have dropped what it could not write and report success next
 *    time (fsync(2), "Error handling"). Opening anew, which goes on from the tree's last checkpoint, is the way on.
 */
import { closeSync, fsyncSync, mkdirSync, openSync, readdirSync, statSync } from 'node:fs'
import { NineError } from '../../namespace/errors.ts'
import { limits } from '../../namespace/limits.ts'
import type { Micros } from '../../namespace/stat.ts'
import type { BlobRef, Revision } from '../model.ts'
import { ByteWriter } from '../tree/bytes.ts'
import { folderError } from '../engine/folder.ts'
import { encodeRevision, header_bytes, type StoredImage, type StoredRevision } from './format.ts'
import { Segment, type SegmentFile } from './segment.ts'

export interface HistoryOptions {
  readonly dir: string
  /** Revision of the tree's last checkpoint; 0 for a new store. */
  readonly revision: number
  /** Size at which a segment is sealed; default limits.history_segment_bytes. */
  readonly segmentBytes?: number | undefined
}

export interface CompactOptions {
  /** Bytes of records to keep. */
  readonly bytesMax: number
  /** Segments whose last revision is older may go. */
  readonly olderThan: Micros
  /** Revisions from this one on stay, whatever their size and age. */
  readonly keepFrom?: number | undefined
}

/** Appended bytes that start a write in the background. */
const flush_bytes = 512 * 1024
/** One read() stops after this many bytes of records, having given at least one. */
const read_bytes_max = 8 * 1024 * 1024
/** More than the segments of a history of default size: going through the past visits all of them again and again. */
const loaded_max = 24
const retry_ms = 200
/** Offsets in a segment are of 32 bits. */
const segment_bytes_most = 2 ** 31
const op = 'history.open'
/** Shared by all stores: a revision is encoded and copied in one go. */
const writer = new ByteWriter(64 * 1024)

/** @throws NineError `corrupt` (H3), `denied`, `read_only`, `no_space` */
export function openHistory(options: HistoryOptions): History {
  try {
    mkdirSync(options.dir, { recursive: true, mode: 0o700 })
    return new History(options)
  } catch (error) {
    throw folderError(error, options.dir)
  }
}

export class History {
  readonly #dir: string
  readonly #segmentBytes: number
  /** Oldest first; the last one is written to. */
  #segments: Segment[] = []
  #last: number
  #loaded: Segment[] = []
  /** The segments not yet sealed, in order: the one written to, and those before it with bytes that are not in their files. */
  #unwritten: Segment[] = []
  /** The writes under way and waiting, one after the other. */
  #writes: Promise<void> = Promise.resolve()
  #isWriting = false
  #appended = 0
  /** Revision of the tree's last checkpoint. */
  #saved: number
  #isFolderDirty = true
  #isClosed = false
  #retry: NodeJS.Timeout | undefined
  /** Who needs all that is kept to stay. */
  #holds = 0
  /** H6 */
  #failure: NineError | undefined

  /** Use openHistory. */
  constructor(options: HistoryOptions) {
    this.#dir = options.dir
    this.#segmentBytes = options.segmentBytes ?? limits.history_segment_bytes
    this.#last = options.revision
    this.#saved = options.revision
    this.#open(options.revision)
  }

  /** Oldest revision whose state can still be shown; events are kept of those after it. */
  get floor(): number {
    return this.#segments[0]!.first - 1
  }

  /** Newest revision appended. */
  get last(): number {
    return this.#last
  }

  /** Appended, not yet written to a file. */
  get pendingBytes(): number {
    let bytes = 0
    for (const segment of this.#unwritten) bytes += segment.pendingBytes
    return bytes
  }

  /** Bytes of records kept. */
  get size(): number {
    let bytes = 0
    for (const segment of this.#segments) bytes += segment.size
    return bytes
  }

  /** H1, H2 */
  append(revision: Revision): void {
    if (revision.revision !== this.#last + 1) {
      throw new NineError({
        kind: 'internal',
        op: 'history.append',
        message: `revision ${revision.revision} was appended after ${this.#last}`,
      })
    }
    let segment = this.#segments[this.#segments.length - 1]!
    if (segment.size >= this.#segmentBytes) segment = this.#roll(segment)
    writer.at = 0
    const { hasBlobs } = encodeRevision(writer, revision, segment.first, segment.chains)
    segment.append(writer.written())
    if (hasBlobs) noteBlobs(segment, revision)
    this.#last = revision.revision
    this.#appended += writer.at
    if (this.#appended >= flush_bytes) this.#startWriting()
  }

  /** Everything appended before this call is on stable storage. Rejects with `no_space`, `internal`; nothing is lost then. */
  async sync(): Promise<void> {
    try {
      await this.#inTurn(() => this.#writeAndSync())
    } catch (error) {
      throw folderError(error, this.#dir)
    }
  }

  /**
   * Revisions from `from` on, in order, at most `max`; fewer at the end, or when they are large (never none before the end).
   * @throws NineError `compacted` (`from` is at or below the floor), `corrupt` (the first one is damaged)
   */
  read(from: number, max: number): StoredRevision[] {
    const revisions: StoredRevision[] = []
    let bytes = 0
    for (let revision = from; revision <= this.#last && revisions.length < max && bytes < read_bytes_max; revision++) {
      const segment = this.#segmentOf(revision)
      try {
        bytes += header_bytes + segment.header(revision).bodyBytes
        revisions.push(segment.read(revision))
      } catch (error) {
        // What stands before the damage is given first.
        if (revisions.length === 0) throw error
        break
      }
    }
    return revisions
  }

  /** What `revision` did to a node, or to the entry (ino, name). @throws NineError `compacted`, `corrupt` */
  image(revision: number, ino: number, name: string | undefined): StoredImage {
    const { images } = this.#segmentOf(revision).read(revision)
    for (const image of images) {
      if (name === undefined ? image.kind === 'node' && image.after.ino === ino : isEntry(image, ino, name)) return image
    }
    const message = `the tree and its history disagree: revision ${revision} did not change ${name === undefined ? `node ${ino}` : name}. Restore the data folder from a backup`
    throw new NineError({ kind: 'corrupt', op: 'history.read', path: this.#dir, message })
  }

  /** The last revision whose time is not after `time`; less than the floor where that is not known any more. */
  revisionAt(time: Micros): number {
    if (this.#last === this.floor) return this.#last
    let low = 0
    let high = this.#segments.length - 1
    if (this.#segments[high]!.count === 0) high--
    if (this.#use(this.#segments[0]!).firstTime() > time) return Math.max(0, this.floor - 1)
    while (low < high) {
      const middle = (low + high + 1) >> 1
      if (this.#use(this.#segments[middle]!).firstTime() <= time) low = middle
      else high = middle - 1
    }
    const segment = this.#segments[low]!
    let first = segment.first
    let last = segment.last
    while (first < last) {
      const middle = Math.ceil((first + last) / 2)
      if (segment.header(middle).time <= time) first = middle
      else last = middle - 1
    }
    return first
  }

  /** Every blob that kept revisions name, damaged ones left out. */
  *blobRefs(): Iterable<BlobRef> {
    for (const segment of [...this.#segments]) yield* this.#use(segment).blobs()
  }

  /** H4. Resolves to the number of segments dropped. */
  async compact(options: CompactOptions): Promise<number> {
    let dropped = 0
    while (this.#segments.length > 1 && this.#holds === 0) {
      const [oldest, next] = this.#segments as [Segment, Segment]
      const isOld = next.count > 0 && this.#use(next).firstTime() <= options.olderThan
      if (!isOld && this.size <= options.bytesMax) break
      // H3: what the tree would be opened at has to stay within reach.
      if (oldest.last > this.#saved || oldest.last >= (options.keepFrom ?? Infinity) || this.#unwritten.includes(oldest)) break
      // First the file: one that stayed would be history again at the next opening.
      oldest.remove()
      this.#segments.shift()
      this.#loaded = this.#loaded.filter((segment) => segment !== oldest)
      dropped++
    }
    if (dropped > 0) this.#syncFolder()
    return dropped
  }

  /** Nothing is compacted until the returned function is called, once. */
  hold(): () => void {
    this.#holds++
    return () => this.#holds--
  }

  /**
   * Files that hold the revisions up to `revision`, the oldest first. They are complete once a sync after that revision has answered, and
   * stay while history is held. @throws NineError `corrupt`
   */
  files(revision: number): SegmentFile[] {
    return this.#segments.filter(({ first }) => first <= revision).map((segment) => this.#use(segment).fileUpTo(revision))
  }

  /** The tree has a checkpoint at this revision: it is what history is opened at next. */
  saved(revision: number): void {
    this.#saved = revision
  }

  /** Does not sync: the log has what was not. */
  async close(): Promise<void> {
    this.#isClosed = true
    clearTimeout(this.#retry)
    await this.#writes
    for (const segment of this.#segments) segment.close()
  }

  #open(revision: number): void {
    const firsts = readdirSync(this.#dir)
      .flatMap((name) => /^(\d{16})\.history$/.exec(name)?.[1] ?? [])
      .map(Number)
      .sort((a, b) => a - b)
    for (const [i, first] of firsts.entries()) {
      const segment = new Segment(this.#dir, first)
      const next = firsts[i + 1]
      // H3. One that begins behind the tree goes, except where it is the only one.
      if (first > revision + 1 || (first === revision + 1 && i > 0)) segment.remove()
      else if (next !== undefined && next <= revision) {
        segment.openSealed(next - 1, statSync(segment.path).size)
        this.#segments.push(segment)
      } else {
        segment.openLast(revision)
        this.#segments.push(segment)
      }
    }
    if (this.#segments.length === 0) this.#create(revision)
    this.#unwritten = [this.#segments[this.#segments.length - 1]!]
  }

  #create(revision: number): void {
    if (revision > 0) {
      const message = `the tree is at revision ${revision}, but ${this.#dir} holds no history of it. Restore the data folder from a backup`
      throw new NineError({ kind: 'corrupt', op, path: this.#dir, message })
    }
    this.#segments.push(Segment.create(this.#dir, 1))
  }

  #segmentOf(revision: number): Segment {
    const segments = this.#segments
    if (revision <= this.floor) {
      const message = `revision ${revision} is no longer kept; the oldest is ${this.floor + 1}`
      throw new NineError({ kind: 'compacted', op: 'history.read', message })
    }
    let low = 0
    let high = segments.length - 1
    while (low < high) {
      const middle = (low + high + 1) >> 1
      if (segments[middle]!.first <= revision) low = middle
      else high = middle - 1
    }
    return this.#use(segments[low]!)
  }

  /** H5 */
  #use(segment: Segment): Segment {
    const loaded = this.#loaded
    if (segment === this.#segments[this.#segments.length - 1] || loaded[loaded.length - 1] === segment) return segment
    const known = loaded.indexOf(segment)
    if (known >= 0) loaded.splice(known, 1)
    loaded.push(segment)
    if (loaded.length > loaded_max) {
      const oldest = loaded.shift()!
      if (!this.#unwritten.includes(oldest)) oldest.release()
    }
    return segment
  }

  /** Goes on in the `full` one while no file can be made: the next append tries again. */
  #roll(full: Segment): Segment {
    let segment: Segment
    try {
      segment = Segment.create(this.#dir, this.#last + 1)
    } catch (error) {
      if (full.size >= segment_bytes_most) throw error
      return full
    }
    this.#segments.push(segment)
    this.#unwritten.push(segment)
    this.#isFolderDirty = true
    this.#startWriting()
    return segment
  }

  #startWriting(): void {
    this.#appended = 0
    if (this.#isWriting || this.#isClosed) return
    this.#isWriting = true
    const ended = (): void => {
      this.#isWriting = false
      if (this.#appended >= flush_bytes) this.#startWriting()
    }
    this.#inTurn(() => this.#write()).then(ended, () => {
      // A full disk, most likely: the bytes stay pending, sync() reports it, and a later write tries again.
      this.#isWriting = false
      if (!this.#isClosed) this.#retry ??= setTimeout(this.#writeAgain, retry_ms).unref()
    })
  }

  readonly #writeAgain = (): void => {
    this.#retry = undefined
    this.#startWriting()
  }

  /** One after the other: a file is not sealed, and so closed, while it is being synced. */
  #inTurn(work: () => Promise<void>): Promise<void> {
    const turn = this.#writes.then(work)
    this.#writes = turn.catch(() => undefined)
    return turn
  }

  /** Write all that is pending and seal what is complete. */
  async #write(): Promise<void> {
    if (this.#isClosed) return
    for (let segment = this.#unwritten[0]; segment !== undefined; segment = this.#unwritten[0]) {
      await segment.flush()
      if (segment === this.#segments[this.#segments.length - 1]) return
      await this.#durably(() => segment.sync())
      segment.seal()
      this.#unwritten.shift()
    }
  }

  async #writeAndSync(): Promise<void> {
    if (this.#isClosed) throw new NineError({ kind: 'unavailable', op: 'history.sync', message: 'history is closed' })
    await this.#write()
    // What is sealed was synced before.
    for (const segment of [...this.#unwritten]) await this.#durably(() => segment.sync())
    if (this.#isFolderDirty) await this.#durably(async () => this.#syncFolder())
  }

  /** H6 */
  async #durably(sync: () => Promise<void>): Promise<void> {
    if (this.#failure !== undefined) throw this.#failure
    try {
      await sync()
    } catch (error) {
      const { kind, message } = folderError(error, this.#dir)
      const advice = 'nothing is lost, the log has it: check the disk, then restart the node'
      this.#failure = new NineError({ kind, op: 'history.sync', path: this.#dir, message: `${message}; ${advice}`, cause: error })
      throw this.#failure
    }
  }

  #syncFolder(): void {
    const fd = openSync(this.#dir, 'r')
    try {
      fsyncSync(fd)
    } finally {
      closeSync(fd)
    }
    this.#isFolderDirty = false
  }
}

function isEntry(image: StoredImage, parent: number, name: string): boolean {
  return image.kind === 'entry' && image.after.parent === parent && image.after.name === name
}

function noteBlobs(segment: Segment, revision: Revision): void {
  for (const image of revision.images) {
    if (image.kind !== 'node') continue
    if (image.after.content.kind === 'blob') segment.addBlob(image.after.content.blob)
    if (image.before?.content.kind === 'blob') segment.addBlob(image.before.content.blob)
  }
}
