/** The small state beside a tree: how far it has come, and what the state machine keeps. */
import { rootIno, type Ino } from '../model.ts'
import { ByteReader, DamagedBytes, type ByteWriter } from './bytes.ts'
import { asBuffer, checkRow, damagedRow, rowKey, type Tables } from './rows.ts'

export interface TreeMeta {
  readonly appliedIndex: number
  readonly revision: number
  readonly nextIno: Ino
}

export interface OpenedMeta {
  readonly tree: TreeMeta
  readonly isNew: boolean
  readonly hasTombs: boolean
  readonly meta: readonly (readonly [string, Uint8Array])[]
}

/** Text of the key under which the tree's own row stands; the state machine's have `machinePrefix` before theirs. */
export const treeMetaText = ''
export const machinePrefix = '.'
const group_bytes = 4
const format = 1
const rows_max = 1_000_000

/** @throws NineError `corrupt` */
export function readMeta(tables: Tables, group: number): OpenedMeta {
  let tree: TreeMeta | undefined
  const meta: [string, Uint8Array][] = []
  for (const { key, value } of tables.meta.getRange({ start: rowKey(group), end: rowKey(group + 1), limit: rows_max })) {
    const text = asBuffer(key).toString('utf8', group_bytes)
    const bytes = checkRow(key, value, `the state "${text}" of store ${group}`)
    if (text === treeMetaText) tree = decodeTreeMeta(bytes, group)
    else meta.push([text.slice(machinePrefix.length), bytes])
  }
  const isNew = tree === undefined
  if (isNew && meta.length > 0) throw damagedRow(`the state of store ${group}`)
  return { tree: tree ?? { appliedIndex: 0, revision: 0, nextIno: rootIno + 1 }, isNew, hasTombs: hasTombs(tables, group), meta }
}

/** As readMeta of a tree that is there, without the state machine's rows. @throws NineError `corrupt` */
export function readTreeMeta(tables: Tables, group: number): { readonly tree: TreeMeta; readonly hasTombs: boolean } {
  const key = rowKey(group, -1, -1, treeMetaText)
  const value = tables.meta.getBinary(key)
  if (value === undefined) throw damagedRow(`the state of store ${group}`)
  return { tree: decodeTreeMeta(checkRow(key, value, `the state of store ${group}`), group), hasTombs: hasTombs(tables, group) }
}

function hasTombs(tables: Tables, group: number): boolean {
  return Array.from(tables.tombs.getRange({ start: rowKey(group), end: rowKey(group + 1), limit: 1 })).length > 0
}

export function encodeTreeMeta(writer: ByteWriter, meta: TreeMeta): void {
  writer.u8(format)
  writer.varint(meta.appliedIndex)
  writer.varint(meta.revision)
  writer.varint(meta.nextIno)
}

export function decodeTreeMeta(bytes: Buffer, group: number): TreeMeta {
  try {
    const reader = new ByteReader(bytes)
    if (reader.u8() !== format) throw new DamagedBytes('unknown format')
    const meta = { appliedIndex: reader.varint(), revision: reader.varint(), nextIno: reader.varint() }
    reader.finish()
    return meta
  } catch (error) {
    throw damagedRow(`the state of store ${group}`, error)
  }
}
