/**
 * Blocks on their way to a file or a stream: filled, sealed, hashed, written, one after the other.
 *
 * L1 While a block is written the next is filled; a target that takes nothing is waited for. Memory is two blocks.
 */
import { createHash } from 'node:crypto'
import { ByteWriter } from '../tree/bytes.ts'
import { block_header_bytes, encodePreamble, sealBlock, type BlockType } from './format.ts'

/** Where a snapshot goes. The bytes are the writer's again when it resolves. */
export interface SnapshotTarget {
  write(bytes: Uint8Array): Promise<void>
}

const slack_bytes = 64 * 1024

export class BlockWriter {
  /** Bytes given to the target, those on their way included. */
  bytes = 0
  readonly #target: SnapshotTarget
  readonly #hash = createHash('sha256')
  readonly #blockBytes: number
  readonly #signal: AbortSignal | undefined
  #filling: ByteWriter
  #writing: ByteWriter
  #written: Promise<void> | undefined
  #number = 0

  constructor(target: SnapshotTarget, blockBytes: number, signal?: AbortSignal) {
    this.#target = target
    this.#blockBytes = blockBytes
    this.#signal = signal
    this.#filling = new ByteWriter(blockBytes + slack_bytes)
    this.#writing = new ByteWriter(blockBytes + slack_bytes)
    this.#filling.at = block_header_bytes
  }

  async preamble(): Promise<void> {
    const bytes = encodePreamble()
    this.#hash.update(bytes)
    this.bytes += bytes.length
    await this.#target.write(bytes)
  }

  /** What the payload of the block being filled is appended to. Ask again after `end`. */
  get payload(): ByteWriter {
    return this.#filling
  }

  get isEmpty(): boolean {
    return this.#filling.at === block_header_bytes
  }

  get isFull(): boolean {
    return this.#filling.at >= this.#blockBytes
  }

  /** The block being filled is complete. L1 */
  async end(type: BlockType): Promise<void> {
    const block = this.#filling.written()
    sealBlock(block, type, this.#number++)
    this.#hash.update(block)
    this.bytes += block.length
    this.#signal?.throwIfAborted()
    await this.#written
    this.#written = this.#target.write(block)
    // Told when it is waited for.
    this.#written.catch(() => undefined)
    const filled = this.#filling
    this.#filling = this.#writing
    this.#writing = filled
    this.#filling.at = block_header_bytes
  }

  async block(type: BlockType, ...parts: readonly Uint8Array[]): Promise<void> {
    for (const part of parts) this.#filling.raw(part)
    await this.end(type)
  }

  /** SHA-256 of everything so far. */
  digest(): Buffer {
    return this.#hash.copy().digest()
  }

  /** Everything has reached the target. */
  async settle(): Promise<void> {
    await this.#written
    this.#written = undefined
  }
}
