/** What a snapshot stands for, as bytes: fields of protobuf. */
import { bytesKey, Reader, varintKey, Writer } from '../../proto/protobuf.ts'
import type { NodeId, SnapshotMeta } from '../../raft/model.ts'

export function encodeMeta({ index, term, configuration }: SnapshotMeta): Uint8Array {
  const writer = new Writer()
  writer.optionalUint(1, index)
  writer.optionalUint(2, term)
  for (const id of configuration.voters) writer.optionalString(3, id)
  for (const id of configuration.outgoing) writer.optionalString(4, id)
  for (const id of configuration.learners) writer.optionalString(5, id)
  for (const id of configuration.demoted) writer.optionalString(6, id)
  return writer.takeOne()
}

/** @throws WireError */
export function decodeMeta(bytes: Buffer): SnapshotMeta {
  const reader = new Reader(bytes)
  let index = 0
  let term = 0
  const voters: NodeId[] = []
  const outgoing: NodeId[] = []
  const learners: NodeId[] = []
  const demoted: NodeId[] = []
  for (let key = reader.next(); key !== 0; key = reader.next()) {
    if (key === varintKey(1)) index = reader.uint()
    else if (key === varintKey(2)) term = reader.uint()
    else if (key === bytesKey(3)) voters.push(reader.string())
    else if (key === bytesKey(4)) outgoing.push(reader.string())
    else if (key === bytesKey(5)) learners.push(reader.string())
    else if (key === bytesKey(6)) demoted.push(reader.string())
    else reader.skip(key)
  }
  return { index, term, configuration: { voters, outgoing, learners, demoted } }
}
