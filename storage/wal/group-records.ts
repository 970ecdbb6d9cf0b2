/**
 * The records of the log that belong to a group of a cluster. Their first byte is the format; format 1 is the entry of a node that
 * is alone (storage/apply/entry.ts).
 *
 *   [2][group][term][index][type] payload   an entry. Type 0: a command, its bytes; 1: opens a term, none; 2: a configuration
 *   [3][group][term][vote]                  hard state; an empty vote is none
 *   [4][group][again][index][term][configuration]   the group's base is this snapshot from here on; its log is dropped
 *
 * Counts are varints, texts and bytes have their length before them, a configuration is four lists of texts: voters, outgoing,
 * learners, demoted. Nothing may follow.
 *
 * A record that is written again, so that the log can be cut behind its first copy (group-log.ts), says so: type 4, 5, 6 for 0, 1, 2,
 * and `again` 1. It replaces the copy and drops nothing.
 *
 * I1 What encodes decodes to the same.
 * I2 Damaged bytes are `corrupt`; they never crash or take memory beyond their own size.
 */
import type { Configuration, Entry, HardState, SnapshotMeta } from '../../raft/model.ts'
import { ByteReader } from '../apply/byte-reader.ts'
import { ByteWriter } from '../apply/byte-writer.ts'

/** Formats of records, by their first byte. */
export const alone_format = 1
const entry_format = 2
const hard_format = 3
const install_format = 4

const type = { command: 0, opening: 1, configuration: 2 } as const
/** Added to the type of an entry that is written again. */
const again_type = 4

export type GroupRecord =
  | { readonly kind: 'entry'; readonly group: number; readonly again: boolean; readonly entry: Entry }
  | { readonly kind: 'hard'; readonly group: number; readonly hard: HardState }
  | { readonly kind: 'install'; readonly group: number; readonly again: boolean; readonly meta: SnapshotMeta }

const writer = new ByteWriter()
const noIds: readonly string[] = []

/** A view that is good until the next call of any of these, as are all below. @throws NineError `invalid` (I1) */
export function encodeGroupEntry(group: number, entry: Entry, again: boolean): Uint8Array {
  const { term, index, data, configuration } = entry
  const kind = configuration !== null ? type.configuration : data !== null ? type.command : type.opening
  writer.reset()
  writer.byte(entry_format)
  writer.count(group)
  writer.count(term)
  writer.count(index)
  writer.byte(again ? kind + again_type : kind)
  if (configuration !== null) writeConfiguration(configuration)
  else if (data !== null) writer.bytes(data)
  return writer.view()
}

/** @throws NineError `invalid` */
export function encodeHard(group: number, hard: HardState): Uint8Array {
  writer.reset()
  writer.byte(hard_format)
  writer.count(group)
  writer.count(hard.term)
  writer.text(hard.vote ?? '')
  return writer.view()
}

/** @throws NineError `invalid` */
export function encodeInstall(group: number, meta: SnapshotMeta, again: boolean): Uint8Array {
  writer.reset()
  writer.byte(install_format)
  writer.count(group)
  writer.byte(again ? 1 : 0)
  writer.count(meta.index)
  writer.count(meta.term)
  writeConfiguration(meta.configuration)
  return writer.view()
}

/** `data` is a view of `bytes`. @throws NineError `corrupt` */
export function decodeGroupRecord(bytes: Uint8Array): GroupRecord {
  const reader = new ByteReader(bytes, 'a record of the log')
  const format = reader.byte()
  const group = reader.count()
  const record =
    format === entry_format
      ? readEntry(reader, group)
      : format === hard_format
        ? readHard(reader, group)
        : format === install_format
          ? readInstall(reader, group)
          : undefined
  if (record === undefined) throw reader.corrupt(`its format ${format} is not known`)
  reader.end()
  return record
}

function readEntry(reader: ByteReader, group: number): GroupRecord {
  const term = reader.count()
  const index = reader.count()
  if (index === 0) throw reader.corrupt('an entry has index 0')
  const written = reader.byte()
  const again = written >= again_type
  const kind = again ? written - again_type : written
  if (kind > type.configuration) throw reader.corrupt(`its type ${written} is not known`)
  const data = kind === type.command ? reader.bytes() : null
  const configuration = kind === type.configuration ? readConfiguration(reader) : null
  return { kind: 'entry', group, again, entry: { index, term, data, configuration } }
}

function readHard(reader: ByteReader, group: number): GroupRecord {
  const term = reader.count()
  const vote = reader.text()
  return { kind: 'hard', group, hard: { term, vote: vote === '' ? null : vote } }
}

function readInstall(reader: ByteReader, group: number): GroupRecord {
  const again = reader.byte()
  if (again > 1) throw reader.corrupt('it has unknown flags')
  const index = reader.count()
  const term = reader.count()
  return { kind: 'install', group, again: again === 1, meta: { index, term, configuration: readConfiguration(reader) } }
}

function writeConfiguration({ voters, outgoing, learners, demoted }: Configuration): void {
  for (const ids of [voters, outgoing, learners, demoted]) {
    writer.count(ids.length)
    for (const id of ids) writer.text(id)
  }
}

function readConfiguration(reader: ByteReader): Configuration {
  return { voters: readIds(reader), outgoing: readIds(reader), learners: readIds(reader), demoted: readIds(reader) }
}

function readIds(reader: ByteReader): readonly string[] {
  const count = reader.countOfItems()
  if (count === 0) return noIds
  const ids: string[] = []
  for (let left = count; left > 0; left--) ids.push(reader.text())
  return ids
}
