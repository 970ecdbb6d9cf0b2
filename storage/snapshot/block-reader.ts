/**
 * Blocks of a file or a stream, each checked before it is given, and the hash over all of them where it has to be.
 *
 * K1 A block is given only if its checksum and its number hold; what ends the snapshot only if the hash over everything before does.
 * K2 Each payload stands in memory of its own, which is the receiver's.
 */
import { createHash } from 'node:crypto'
import { limits } from '../../namespace/limits.ts'
import { checksum } from '../tree/bytes.ts'
import {
  block_header_bytes,
  blockTypes,
  checkPreamble,
  damagedSnapshot,
  decodeHeader,
  hash_bytes,
  preamble_bytes,
  type BlockType,
  type SnapshotHeader,
} from './format.ts'

/** Where a snapshot comes from: bytes in order. */
export interface SnapshotSource {
  /** For messages. */
  readonly path: string
  /** Fills `into`, or gives fewer bytes where it ends. */
  read(into: Uint8Array): Promise<number>
}

export interface Block {
  readonly type: BlockType
  readonly number: number
  /** Where in the file it begins. */
  readonly at: number
  readonly payload: Buffer
}

export class BlockReader {
  /** Bytes read. */
  bytes = 0
  readonly #source: SnapshotSource
  readonly #hash = createHash('sha256')
  readonly #head = Buffer.alloc(block_header_bytes)
  #number = 0
  #digest: Buffer | undefined

  constructor(source: SnapshotSource) {
    this.#source = source
  }

  /** The beginning: preamble and header. @throws NineError `corrupt`, `unsupported` */
  async begin(): Promise<SnapshotHeader> {
    const { path } = this.#source
    const preamble = Buffer.alloc(preamble_bytes)
    const got = await this.#source.read(preamble)
    checkPreamble(preamble.subarray(0, got), path)
    this.#hash.update(preamble)
    this.bytes += preamble_bytes
    const block = await this.next()
    if (block.type !== 'header') throw damagedSnapshot(path, 'block 0 is no header')
    return decodeHeader(block.payload, path)
  }

  /** SHA-256 of what stood before the last end that was read, in hexadecimal digits. */
  get digest(): string | undefined {
    return this.#digest?.toString('hex')
  }

  /** The next block; there has to be one. K1 @throws NineError `corrupt` */
  async next(): Promise<Block> {
    const { path } = this.#source
    const at = this.bytes
    const number = this.#number
    const head = this.#head
    if ((await this.#source.read(head)) < block_header_bytes) throw damagedSnapshot(path, `it ends before block ${number}, at byte ${at}`)
    const length = head.readUInt32LE(4)
    const type = blockTypes[head.readUInt32LE(12)]
    if (length > limits.snapshot_block_bytes_max) throw this.#damaged(number, at)
    const payload = Buffer.allocUnsafeSlow(length)
    if ((await this.#source.read(payload)) < length)
      throw damagedSnapshot(path, `it ends inside block ${number}, which begins at byte ${at}`)
    const sum = checksum(payload, 0, length, checksum(head, 4, block_header_bytes))
    if (head.readUInt32LE(0) !== sum || head.readUInt32LE(8) !== number || type === undefined) throw this.#damaged(number, at)
    if (type === 'end' || type === 'chunksEnd') {
      this.#digest = this.#hash.copy().digest()
      if (length !== hash_bytes || !payload.equals(this.#digest)) throw damagedSnapshot(path, `its hash does not hold at block ${number}`)
    }
    this.#hash.update(head)
    this.#hash.update(payload)
    this.#number++
    this.bytes += block_header_bytes + length
    return { type, number, at, payload }
  }

  /** Nothing may follow. @throws NineError `corrupt` */
  async finish(): Promise<void> {
    if ((await this.#source.read(Buffer.alloc(1))) > 0) throw damagedSnapshot(this.#source.path, `something follows its last block`)
  }

  #damaged(number: number, at: number): Error {
    return damagedSnapshot(this.#source.path, `block ${number}, at byte ${at}, does not have its checksum`)
  }
}
