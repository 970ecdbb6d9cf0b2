/**
 * Backups: a snapshot with the chunks of its large values behind it, in one file or stream.
 *
 * P1 Chunks stay until they are written: history and what only it shows are held from before the state is read, so every value it names
 *    is named by the store until the end.
 * P2 Where the receiver may be slow, the snapshot goes to a file on this machine first (`spool`): the database is read at the disk's speed,
 *    whatever the receiver's.
 * P3 Memory: two blocks, the chunks read ahead, 45 bytes for each large value, and about 100 for each of up to `chunks_known_max` chunks,
 *    which are written once; beyond that one may be written again.
 */
import { rm } from 'node:fs/promises'
import { limits } from '../../namespace/limits.ts'
import { chunksOf, type ChunkSource } from '../blob/chunk-tree.ts'
import { hashToBytes, type ChunkHash } from '../blob/store.ts'
import type { BlobRef } from '../model.ts'
import { ByteReader } from '../tree/bytes.ts'
import type { Tree } from '../tree/tree.ts'
import { BlockWriter, type SnapshotTarget } from './block-writer.ts'
import { openSource, writeFileWhole } from './files.ts'
import { decodeBlobs } from './load.ts'
import { writeState, type SnapshotIdentity, type WriteOptions, type WrittenSnapshot } from './write.ts'

export interface BackupParts {
  readonly tree: Tree
  readonly blobs: ChunkSource
  readonly identity: SnapshotIdentity
}

export interface BackupOptions extends Omit<WriteOptions, 'isBackup' | 'onBlobs'> {
  /** File that may be made on this machine meanwhile. P2 */
  readonly spool?: string | undefined
}

export interface WrittenBackup extends WrittenSnapshot {
  /** Chunks of large values in it. */
  readonly chunks: number
}

/** Write a backup to a file, whole or not at all. Save the store before. @throws NineError as writeSnapshotFile; `corrupt` also for damaged or missing chunks */
export async function writeBackupFile(parts: BackupParts, path: string, options: BackupOptions = {}): Promise<WrittenBackup> {
  let written: WrittenBackup | undefined
  await writeFileWhole(path, async (target) => {
    written = await writeBackup(parts, target, options)
  })
  return written!
}

/** As writeBackupFile, to anything that takes bytes. */
export async function writeBackup(parts: BackupParts, target: SnapshotTarget, options: BackupOptions = {}): Promise<WrittenBackup> {
  const release = parts.tree.hold() // P1
  try {
    return await new Backup(parts, target, options).run()
  } finally {
    release()
  }
}

/** The bytes of a backup as they are read, at the reader's pace. Ending the iteration ends the backup. */
export async function* streamBackup(parts: BackupParts, options: BackupOptions & { readonly spool: string }): AsyncIterable<Uint8Array> {
  const pipe = new Pipe()
  const writing = writeBackup(parts, pipe, options).then(
    () => pipe.end(undefined),
    (error: unknown) => pipe.end(error),
  )
  try {
    for (;;) {
      const bytes = await pipe.take()
      if (bytes === undefined) return
      yield bytes
    }
  } finally {
    pipe.give()
    await writing
  }
}

const chunks_known_max = 1_000_000
const chunks_ahead = 8

class Backup {
  readonly #parts: BackupParts
  readonly #options: BackupOptions
  readonly #target: SnapshotTarget
  readonly #writer: BlockWriter
  /** Where blocks go now. */
  #sink: SnapshotTarget
  readonly #blobs: Buffer[] = []
  #known = new Set<ChunkHash>()
  #chunks = 0

  constructor(parts: BackupParts, target: SnapshotTarget, options: BackupOptions) {
    this.#parts = parts
    this.#options = options
    this.#target = target
    this.#sink = target
    this.#writer = new BlockWriter({ write: (bytes) => this.#sink.write(bytes) }, limits.snapshot_block_bytes, options.signal)
  }

  async run(): Promise<WrittenBackup> {
    const { spool } = this.#options
    const header = spool === undefined ? await this.#snapshot() : await this.#spooled(spool)
    await this.#allChunks()
    const hash = this.#writer.digest()
    await this.#writer.block('chunksEnd', hash)
    await this.#writer.settle()
    return { header, bytes: this.#writer.bytes, hash: hash.toString('hex'), chunks: this.#chunks }
  }

  async #snapshot(): Promise<WrittenBackup['header']> {
    const { tree, identity } = this.#parts
    const header = await writeState(tree, identity, this.#writer, {
      ...this.#options,
      isBackup: true,
      onBlobs: (block) => this.#blobs.push(Buffer.from(block)),
    })
    await this.#writer.block('end', this.#writer.digest())
    await this.#writer.settle()
    return header
  }

  /** P2 */
  async #spooled(spool: string): Promise<WrittenBackup['header']> {
    try {
      let header: WrittenBackup['header'] | undefined
      const write = async (file: SnapshotTarget): Promise<void> => {
        this.#sink = file
        header = await this.#snapshot()
      }
      await writeFileWhole(spool, write, { isDurable: false })
      this.#sink = this.#target
      await this.#pump(spool)
      return header!
    } finally {
      await rm(spool, { force: true })
    }
  }

  async #pump(spool: string): Promise<void> {
    const source = await openSource(spool)
    try {
      const buffer = Buffer.allocUnsafeSlow(limits.snapshot_block_bytes)
      for (;;) {
        this.#options.signal?.throwIfAborted()
        const bytes = await source.read(buffer)
        if (bytes === 0) return
        await this.#target.write(buffer.subarray(0, bytes))
      }
    } finally {
      await source.close()
    }
  }

  async #allChunks(): Promise<void> {
    // Chunks being read, in the order in which they are written.
    const ahead: { readonly hash: ChunkHash; readonly bytes: Promise<Uint8Array> }[] = []
    for (const blobs of this.#blobs) {
      for (const ref of decodeBlobs(new ByteReader(blobs))) {
        for await (const hash of this.#newChunksOf(ref)) {
          const bytes = this.#parts.blobs.get(hash)
          // Told when it is its turn.
          bytes.catch(() => undefined)
          ahead.push({ hash, bytes })
          if (ahead.length >= chunks_ahead) await this.#chunk(ahead.shift()!)
        }
      }
    }
    for (const chunk of ahead) await this.#chunk(chunk)
  }

  async *#newChunksOf(ref: BlobRef): AsyncIterable<ChunkHash> {
    for await (const hash of chunksOf(this.#parts.blobs, ref)) {
      if (this.#known.has(hash)) continue
      if (this.#known.size >= chunks_known_max) this.#known = new Set() // P3
      this.#known.add(hash)
      yield hash
    }
  }

  async #chunk({ hash, bytes }: { readonly hash: ChunkHash; readonly bytes: Promise<Uint8Array> }): Promise<void> {
    await this.#writer.block('chunk', hashToBytes(hash), await bytes)
    this.#chunks++
    this.#options.progress?.(this.#writer.bytes)
  }
}

/** One piece of bytes at a time from a writer to a reader. */
class Pipe implements SnapshotTarget {
  #bytes: Uint8Array | undefined
  #ended: { readonly error: unknown } | undefined
  #isGiven = false
  #wakeReader: (() => void) | undefined
  #wakeWriter: (() => void) | undefined

  async write(bytes: Uint8Array): Promise<void> {
    // The bytes are the writer's again before the reader has done with them.
    this.#bytes = Uint8Array.prototype.slice.call(bytes)
    this.#wakeReader?.()
    while (this.#bytes !== undefined) {
      if (this.#isGiven) throw new Error('nobody reads the backup any more')
      await new Promise<void>((resolve) => (this.#wakeWriter = resolve))
    }
  }

  end(error: unknown): void {
    this.#ended = { error }
    this.#wakeReader?.()
  }

  /** The next piece; undefined at the end. @throws what the writer failed with */
  async take(): Promise<Uint8Array | undefined> {
    while (this.#bytes === undefined) {
      if (this.#ended?.error !== undefined) throw this.#ended.error as Error
      if (this.#ended !== undefined) return undefined
      await new Promise<void>((resolve) => (this.#wakeReader = resolve))
    }
    const bytes = this.#bytes
    this.#bytes = undefined
    this.#wakeWriter?.()
    return bytes
  }

  /** Nobody reads any more: the writer fails at its next write. */
  give(): void {
    this.#isGiven = true
    this.#wakeWriter?.()
  }
}
