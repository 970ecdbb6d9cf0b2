/**
 * The binary form of an Entry, as the log keeps it and nodes send it.
 *
 * Layout of a record of an alone node: format byte, a byte of flags that says which optional fields follow, group, term, index
 * and time as counts, actor, the optional fields in the order of their flags, the command (command-codec.ts). Nothing may
 * follow. The data that the nodes of a cluster agree on is the same without format, group, term and index, which its place
 * in a group's log gives it; so a folder's records become a member's entries as they are.
 *
 * I1 What encodes decodes to the same, so that an entry read back from the log is applied as it was the first time.
 * I2 Damaged bytes are `corrupt`; they never crash or take memory beyond their own size.
 * I3 What encodes has at most limits.entry_bytes_max, so nothing is agreed on that a node's log cannot take.
 */
import type { ClientIdentity } from '../../namespace/context.ts'
import { NineError } from '../../namespace/errors.ts'
import { limits } from '../../namespace/limits.ts'
import type { Entry } from '../model.ts'
import { ByteReader } from './byte-reader.ts'
import { ByteWriter } from './byte-writer.ts'
import { readCommand, writeCommand } from './command-codec.ts'

const format = 1
const has = { groups: 1, client: 2, seq: 4, digest: 8, cause: 16, trace: 32 } as const
const flags_max = 63

/** An entry that has no place in a log yet. */
export type Proposal = Omit<Entry, 'group' | 'term' | 'index'>

const writer = new ByteWriter()
/** Of what is taken: its bytes live as long as the log's memory does. */
const dataWriter = new ByteWriter()
const noGroups: readonly string[] = []
/** Of the entry read last: the next one is likely of the same. */
let lastActor = ''
let lastClient = ''

/**
 * The record of an alone node's log: a view that is good until the next call, so copy it or write it before.
 * @throws NineError `invalid` for what has no binary form (a lone surrogate, a seq that is no whole number from 0), `too_large` (I3)
 */
export function encodeEntry(entry: Entry): Uint8Array {
  writer.reset()
  writer.byte(format)
  writer.byte(flagsOf(entry))
  writer.count(entry.group)
  writer.count(entry.term)
  writer.count(entry.index)
  writeRest(writer, entry)
  checkSize(writer.length)
  return writer.view()
}

/** What a group of a cluster agrees on: the entry without its place in a log. Nobody writes over it. @throws as encodeEntry */
export function encodeData(entry: Proposal): Uint8Array {
  dataWriter.reset()
  dataWriter.byte(flagsOf(entry))
  writeRest(dataWriter, entry)
  checkSize(dataWriter.length)
  return dataWriter.take()
}

/** Bytes of values are views of `bytes`; apply copies what it keeps. @throws NineError `corrupt` */
export function decodeEntry(bytes: Uint8Array): Entry {
  const reader = new ByteReader(bytes, 'an entry of the log')
  checkFormat(reader)
  const flags = readFlags(reader)
  return readRest(reader, flags, reader.count(), reader.count(), reader.count())
}

/** The entry whose data stands at this place of a group's log; bytes of values are views of `data`. @throws NineError `corrupt` */
export function decodeData(data: Uint8Array, group: number, term: number, index: number): Entry {
  const reader = new ByteReader(data, 'an entry of the log')
  return readRest(reader, readFlags(reader), group, term, index)
}

/** The record of an alone node as an entry of its group. `data` is a copy. @throws NineError `corrupt` */
export function aloneEntry(bytes: Uint8Array): { group: number; term: number; index: number; data: Uint8Array } {
  const reader = new ByteReader(bytes, 'an entry of the log')
  checkFormat(reader)
  const flags = readFlags(reader)
  const place = { group: reader.count(), term: reader.count(), index: reader.count() }
  const rest = reader.rest()
  const data = new Uint8Array(1 + rest.length)
  data[0] = flags
  data.set(rest, 1)
  return { ...place, data }
}

/** I3 */
function checkSize(bytes: number): void {
  if (bytes <= limits.entry_bytes_max) return
  const message = `this change takes ${bytes} bytes in the log, which takes at most ${limits.entry_bytes_max}`
  throw new NineError({ kind: 'too_large', op: 'apply.encode', message })
}

function flagsOf({ groups, client, seq, digest, cause, trace }: Proposal): number {
  return (
    (groups.length > 0 ? has.groups : 0) |
    (client !== undefined ? has.client : 0) |
    (seq !== undefined ? has.seq : 0) |
    (digest !== undefined ? has.digest : 0) |
    (cause !== undefined ? has.cause : 0) |
    (trace !== undefined ? has.trace : 0)
  )
}

function writeRest(writer: ByteWriter, { time, actor, groups, client, seq, digest, cause, trace, command }: Proposal): void {
  writer.count(time)
  writer.text(actor)
  if (groups.length > 0) {
    writer.count(groups.length)
    for (const group of groups) writer.text(group)
  }
  if (client !== undefined) {
    writer.text(client.id)
    writer.count(client.born)
    writer.count(client.settled)
  }
  if (seq !== undefined) writer.count(seq)
  if (digest !== undefined) writer.text(digest)
  if (cause !== undefined) writer.text(cause)
  if (trace !== undefined) writer.text(trace)
  writeCommand(writer, command)
}

function readRest(reader: ByteReader, flags: number, group: number, term: number, index: number): Entry {
  const entry: Entry = {
    group,
    term,
    index,
    time: reader.count(),
    actor: (lastActor = reader.textLike(lastActor)),
    groups: (flags & has.groups) !== 0 ? readGroups(reader) : noGroups,
    client: (flags & has.client) !== 0 ? readClient(reader) : undefined,
    seq: (flags & has.seq) !== 0 ? reader.count() : undefined,
    digest: (flags & has.digest) !== 0 ? reader.text() : undefined,
    cause: (flags & has.cause) !== 0 ? reader.text() : undefined,
    trace: (flags & has.trace) !== 0 ? reader.text() : undefined,
    command: readCommand(reader),
  }
  reader.end()
  return entry
}

function checkFormat(reader: ByteReader): void {
  const version = reader.byte()
  if (version !== format) throw reader.corrupt(`its format ${version} is not known`)
}

function readFlags(reader: ByteReader): number {
  const flags = reader.byte()
  if (flags > flags_max) throw reader.corrupt('it has unknown flags')
  return flags
}

function readGroups(reader: ByteReader): string[] {
  const groups: string[] = []
  for (let left = reader.countOfItems(); left > 0; left--) groups.push(reader.text())
  return groups
}

function readClient(reader: ByteReader): ClientIdentity {
  return { id: (lastClient = reader.textLike(lastClient)), born: reader.count(), settled: reader.count() }
}
