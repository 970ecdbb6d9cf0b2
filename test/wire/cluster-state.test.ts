/** What a node says of its cluster: the messages of session.proto, both ways, and what older and later versions make of them. */
import { describe, expect, it } from 'vitest'
import * as pb from '../../proto/gen/nine/v1/session.ts'
import { Reader, Writer } from '../../proto/protobuf.ts'
import { parsePath } from '../../namespace/path.ts'
import { ownLimits, readClusterState, readWelcome, writeClusterState, writeWelcome } from '../../namespace/wire/session.ts'
import type { ClusterState, Welcome } from '../../namespace/wire/session.ts'

const state: ClusterState = {
  roots: [
    { path: parsePath('/data'), leader: 'n2', term: 2 ** 40 },
    { path: parsePath('/usr'), leader: '', term: 0 },
  ],
  nodes: [{ name: 'n1', address: '10.0.0.1:9581' }],
}
const welcome: Welcome = {
  version: 1,
  features: [],
  limits: ownLimits,
  session: 's',
  client: { id: 'c', born: 7 },
  principal: { name: 'owner', groups: ['g'] },
  name: 'n1',
  cluster: 'c1',
}

function bytesOf(write: (writer: Writer) => void): Buffer {
  const writer = new Writer()
  write(writer)
  return writer.takeOne()
}

describe('how a cluster stands', () => {
  it('is read as it was written, and as session.proto has it', () => {
    const bytes = bytesOf((writer) => writeClusterState(writer, state))
    expect(readClusterState(new Reader(bytes))).toEqual(state)
    const decoded = pb.ClusterState.decode(bytes)
    expect(decoded.roots.map(({ path, leader, term }) => ({ path, leader, term: Number(term) }))).toEqual(state.roots)
    expect(decoded.nodes).toEqual(state.nodes)
    expect(readClusterState(new Reader(Buffer.from(pb.ClusterState.encode(decoded).finish())))).toEqual(state)
  })

  it('may hold more than this version knows, but not without bound, and no path that is none', () => {
    const bytes = bytesOf((writer) => {
      writeClusterState(writer, state)
      writer.string(9, 'later')
    })
    expect(readClusterState(new Reader(bytes))).toEqual(state)
    const roots = Array.from({ length: 300 }, () => state.roots[0]!)
    expect(() => readClusterState(new Reader(bytesOf((writer) => writeClusterState(writer, { roots, nodes: [] }))))).toThrow('too much')
    const bad = pb.ClusterState.encode({ roots: [{ path: 'data', leader: '', term: 0 }], nodes: [] }).finish()
    expect(() => readClusterState(new Reader(Buffer.from(bad)))).toThrow()
  })
})

describe('a welcome', () => {
  it('names the cluster, or does not', () => {
    expect(readWelcome(new Reader(bytesOf((writer) => writeWelcome(writer, welcome))))).toEqual(welcome)
    expect(pb.Welcome.decode(bytesOf((writer) => writeWelcome(writer, welcome))).cluster).toBe('c1')
    const silent = { ...welcome, cluster: '' }
    expect(readWelcome(new Reader(bytesOf((writer) => writeWelcome(writer, silent))))).toEqual(silent)
  })
})
