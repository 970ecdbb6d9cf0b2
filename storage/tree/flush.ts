/**
 * Writing a frozen generation to LMDB: everything is encoded first, in slices between which the event loop runs, and
 * then handed over in one go as one transaction.
 */
import { setImmediate as nextTurn } from 'node:timers/promises'
import { contentSize, type DirectoryEntry, type Ino, type NodeRecord } from '../model.ts'
import { ByteWriter } from './bytes.ts'
import { fallenKey } from './fallen.ts'
import { encodeTreeMeta, machinePrefix, treeMetaText, type TreeMeta } from './meta.ts'
import type { Fallen, Generation, Slot } from './overlay.ts'
import { encodeNode, isApart } from './record.ts'
import { checksum_bytes, entry_bytes, rowKey, sealRow, writeU48, type RowKey, type Rows, type Tables } from './rows.ts'

export interface Flush {
  /** Puts everything; to be run inside one transaction. */
  readonly run: () => void
  readonly hasTombs: boolean
}

/** What is encoded before others get a turn. */
const slice_rows = 1_000
const slice_bytes = 1024 * 1024
const slab_bytes = 1024 * 1024
const number_bytes = 6
const scratch = new ByteWriter(64 * 1024)
const nothing = new Uint8Array(0)

/** `frozen` does not change any more. */
export async function encodeFlush(
  tables: Tables,
  group: number,
  frozen: Generation,
  meta: TreeMeta,
  machine: ReadonlyMap<string, Uint8Array | undefined>,
  apartOver: number,
): Promise<Flush> {
  const encoder = new FlushEncoder(tables, group, apartOver)
  for (const node of frozen.nodes.values()) {
    encoder.node(node)
    if (encoder.isSliceFull) await encoder.yield()
  }
  for (const { slots } of frozen.directories.values()) {
    for (const slot of slots.values()) {
      encoder.slot(slot)
      if (encoder.isSliceFull) await encoder.yield()
    }
  }
  for (const { ino, since } of frozen.stale) encoder.remove(tables.contents, rowKey(group, ino, since))
  for (const fallen of frozen.fallen) encoder.fallen(fallen)
  for (const [key, value] of machine) encoder.meta(machinePrefix + key, value)
  scratch.at = 0
  encodeTreeMeta(scratch, meta)
  encoder.meta(treeMetaText, scratch.written())
  return { run: () => encoder.run(), hasTombs: encoder.hasTombs }
}

interface Operation {
  readonly rows: Rows
  readonly key: RowKey
  /** undefined: remove. */
  readonly value: Uint8Array | undefined
}

class FlushEncoder {
  readonly #tables: Tables
  readonly #group: number
  readonly #apartOver: number
  readonly #nodes: Ino[] = []
  readonly #nodeValues: Uint8Array[] = []
  readonly #entries: DirectoryEntry[] = []
  readonly #entryValues: Uint8Array[] = []
  readonly #others: Operation[] = []
  readonly #key: RowKey
  #slab = Buffer.alloc(0)
  #at = 0
  #sliceRows = 0
  #sliceBytes = 0
  hasTombs = false

  constructor(tables: Tables, group: number, apartOver: number) {
    this.#tables = tables
    this.#group = group
    this.#apartOver = apartOver
    this.#key = rowKey(group, 0)
  }

  get isSliceFull(): boolean {
    return this.#sliceRows >= slice_rows || this.#sliceBytes >= slice_bytes
  }

  async yield(): Promise<void> {
    await nextTurn()
    this.#sliceRows = 0
    this.#sliceBytes = 0
  }

  node(node: NodeRecord): void {
    scratch.at = 0
    encodeNode(scratch, node, this.#apartOver)
    const key = this.#key
    key.a = node.ino
    key.text = ''
    this.#nodes.push(node.ino)
    this.#nodeValues.push(this.#sealed(key, scratch.written()))
    if (isApart(node.content, this.#apartOver) && node.content.kind === 'inline') {
      const apart = rowKey(this.#group, node.ino, node.since)
      this.#sliceBytes += contentSize(node.content)
      this.put(this.#tables.contents, apart, this.#sealed(apart, node.content.bytes))
    }
  }

  slot({ entry, base }: Slot): void {
    const value = this.#take(entry_bytes)
    writeU48(entry.ino, value, 0)
    writeU48(entry.since, value, number_bytes)
    const { tombs, entries } = this.#tables
    const key = this.#key
    key.a = entry.parent
    key.text = entry.name
    sealRow(key, value, 0, entry_bytes - checksum_bytes)
    if (entry.ino !== 0) {
      this.#entries.push(entry)
      this.#entryValues.push(value)
      if (base === 'tomb') this.remove(tombs, rowKey(this.#group, entry.parent, -1, entry.name))
      return
    }
    this.hasTombs = true
    this.put(tombs, rowKey(this.#group, entry.parent, -1, entry.name), value)
    if (base === 'entry') this.remove(entries, rowKey(this.#group, entry.parent, -1, entry.name))
  }

  fallen(fallen: Fallen): void {
    const key = fallenKey(this.#group, fallen)
    this.put(this.#tables.fallen, key, this.#sealed(key, nothing))
  }

  meta(text: string, value: Uint8Array | undefined): void {
    const key = rowKey(this.#group, -1, -1, text)
    if (value === undefined) this.remove(this.#tables.meta, key)
    else this.put(this.#tables.meta, key, this.#sealed(key, value))
  }

  put(rows: Rows, key: RowKey, value: Uint8Array): void {
    this.#others.push({ rows, key, value })
  }

  remove(rows: Rows, key: RowKey): void {
    this.#others.push({ rows, key, value: undefined })
  }

  run(): void {
    const { nodes, entries } = this.#tables
    const key = this.#key
    key.text = ''
    for (let i = 0; i < this.#nodes.length; i++) {
      key.a = this.#nodes[i]!
      nodes.put(key, this.#nodeValues[i]!)
    }
    for (let i = 0; i < this.#entries.length; i++) {
      const entry = this.#entries[i]!
      key.a = entry.parent
      key.text = entry.name
      entries.put(key, this.#entryValues[i]!)
    }
    for (const { rows, key: at, value } of this.#others) {
      if (value === undefined) rows.remove(at)
      else rows.put(at, value)
    }
  }

  #sealed(key: RowKey, bytes: Uint8Array): Uint8Array {
    const value = this.#take(bytes.length + checksum_bytes)
    value.set(bytes)
    sealRow(key, value, 0, bytes.length)
    return value
  }

  #take(bytes: number): Uint8Array {
    if (this.#at + bytes > this.#slab.length) {
      this.#slab = Buffer.allocUnsafeSlow(Math.max(slab_bytes, bytes))
      this.#at = 0
    }
    this.#sliceRows++
    this.#sliceBytes += bytes
    return this.#slab.subarray(this.#at, (this.#at += bytes))
  }
}
