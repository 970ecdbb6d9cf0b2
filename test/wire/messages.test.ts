/** The messages are those of the .proto files: what we write, generated code reads, and the other way round. */
import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import * as pb from '../../proto/gen/nine/v1/namespace.ts'
import * as types from '../../proto/gen/nine/v1/types.ts'
import { Reader, Writer } from '../../proto/protobuf.ts'
import { systemClock } from '../../namespace/clock.ts'
import { contextFor } from '../../namespace/context.ts'
import type { Context } from '../../namespace/context.ts'
import { errorKinds, NineError } from '../../namespace/errors.ts'
import type { TxnRequest, WatchEvent } from '../../namespace/file-server.ts'
import { parsePath } from '../../namespace/path.ts'
import type { Stat } from '../../namespace/stat.ts'
import { ContextReader, writeContext } from '../../namespace/wire/context.ts'
import { readError, writeError } from '../../namespace/wire/fields.ts'
import { openOperation } from '../../namespace/wire/handles.ts'
import { writeOperation } from '../../namespace/wire/mutations.ts'
import type { Messages } from '../../namespace/wire/operation.ts'
import { listOperation, readOperation, statOperation } from '../../namespace/wire/reads.ts'
import { txnOperation } from '../../namespace/wire/txn.ts'
import { readBatch, watchMessages, writeBatch } from '../../namespace/wire/watch.ts'

const principal = { name: 'someone', groups: ['a', 'b'] }
const stat: Stat = {
  name: 'näme',
  kind: 'file',
  qid: { type: 0, path: 2 ** 40 + 3, version: 7 },
  size: 0,
  version: 7,
  revision: 12,
  createdRevision: 5,
  mode: 0o644,
  owner: 'o',
  group: 'g',
  modifiedBy: 'm',
  createdAt: 1_795_261_845_846_438,
  modifiedAt: 1_795_261_845_846_439,
  contentType: 'text/plain',
  blob: undefined,
  lease: 'l1',
  target: undefined,
}
const position = [{ store: 's1', incarnation: 'i1', revision: 12, ordinal: 3 }]

function contexts(): ContextReader {
  return new ContextReader({
    principal,
    session: 9,
    client: { id: 'own', born: 5 },
    signal: new AbortController().signal,
    clock: systemClock,
    believesPrincipal: true,
  })
}

function request<Args>(messages: Pick<Messages<Args, never>, 'writeArgs'>, args: Args, context: Context = contextFor(principal)): Buffer {
  const writer = new Writer()
  writeContext(writer, context, { now: systemClock.monotonic(), client: undefined, seq: 3, settled: 1, target: 2, namesPrincipal: true })
  messages.writeArgs(writer, args)
  return writer.takeOne()
}

function answer<Result>(write: (writer: Writer, result: Result) => void, result: Result): Buffer {
  const writer = new Writer()
  write(writer, result)
  writer.endUnit(() => undefined)
  return writer.takeOne()
}

describe('messages', () => {
  it('a context crosses the wire', () => {
    const context: Context = { ...contextFor(principal, 5_000), trace: 't', cause: 'c', digest: 'd', time: 77, hops: 2 }
    const reader = contexts()
    reader.begin()
    statOperation.readArgs(new Reader(request(statOperation, { path: parsePath('/a'), options: undefined }, context)), reader)
    const read = reader.take()
    expect(read).toMatchObject({ principal, trace: 't', cause: 'c', digest: 'd', time: 77, hops: 3, seq: 3, session: 9 })
    expect(read.client).toEqual({ id: 'own', born: 5, settled: 1 })
    expect(reader.target).toBe(2)
    expect(Math.abs(read.deadline - context.deadline)).toBeLessThan(1_000)
  })

  it('too many hops are a loop', () => {
    const reader = contexts()
    const bytes = request(statOperation, { path: parsePath('/a'), options: undefined }, { ...contextFor(principal), hops: 16 })
    expect(() => statOperation.readArgs(new Reader(bytes), reader)).toThrow(expect.objectContaining({ kind: 'loop' }) as Error)
  })

  it('generated code reads our requests', () => {
    const read = pb.ReadRequest.decode(
      request(readOperation, {
        path: parsePath('/a/b'),
        options: { offset: 0, length: 5, at: position, consistency: 'stale', minPosition: position },
      }),
    )
    expect(read).toMatchObject({
      path: '/a/b',
      offset: 0,
      length: 5,
      context: { seq: 3, settled: 1, hops: 1, target: 2, principal: 'someone', groups: ['a', 'b'] },
    })
    expect(read.view).toMatchObject({ consistency: 1, minPosition: { stores: position }, at: { $case: 'atPosition' } })
    const write = pb.WriteRequest.decode(
      request(writeOperation, {
        path: parsePath('/a'),
        bytes: Buffer.from('xyz'),
        options: { at: 'append', ifMatch: 'none', mode: 0, ttlMs: 9, mustExist: true },
      }),
    )
    expect(write).toMatchObject({
      path: '/a',
      mustExist: true,
      at: { $case: 'append', value: true },
      options: { ifMatch: { none: true }, mode: 0, ttlMs: 9 },
    })
    expect(Buffer.from(write.data).toString()).toBe('xyz')
    const open = pb.OpenRequest.decode(
      request(openOperation, { path: parsePath('/a'), flags: { write: true, create: true, mode: 'shared', permissions: 0o600 } }),
    )
    expect(open).toMatchObject({ write: true, create: true, shared: true, options: { mode: 0o600 } })
    const watch = pb.WatchRequest.decode(
      request(watchMessages, { path: parsePath('/'), options: { recursive: true, from: 4 }, credit: 100 }),
    )
    expect(watch).toMatchObject({ recursive: true, from: { $case: 'fromRevision', value: 4 }, credit: 100 })
  })

  it('generated code reads our answers', () => {
    const read = pb.ReadResponse.decode(answer(readOperation.writeResult, { bytes: new Uint8Array(40_000).fill(7), stat, position }))
    expect(read.stat).toMatchObject({
      name: 'näme',
      size: 0,
      qid: { path: 2 ** 40 + 3, version: 7 },
      createdAt: stat.createdAt,
      lease: 'l1',
    })
    expect(read.position).toEqual(position)
    expect(read.data.length).toBe(40_000)
    const list = pb.ListResponse.decode(answer(listOperation.writeResult, { entries: [stat, stat], next: 'n', position }))
    expect(list.entries.length).toBe(2)
    expect(list.next).toBe('n')
  })

  it('we read what generated code writes', () => {
    const bytes = pb.StatResponse.encode(pb.StatResponse.decode(answer(statOperation.writeResult, { stat, position }))).finish()
    expect(statOperation.readResult(new Reader(Buffer.from(bytes)))).toEqual({ stat, position })
    const requestBytes = pb.ListRequest.encode(
      pb.ListRequest.decode(
        request(listOperation, { path: parsePath('/d'), options: { after: 'a', limit: 3, recursive: true, prefix: 'p', at: 12 } }),
      ),
    ).finish()
    const reader = contexts()
    expect(listOperation.readArgs(new Reader(Buffer.from(requestBytes)), reader)).toEqual({
      path: '/d',
      options: { after: 'a', limit: 3, recursive: true, prefix: 'p', at: 12 },
    })
  })

  it('transactions cross the wire whole', () => {
    const given: TxnRequest = {
      if: [
        { path: parsePath('/a'), is: 'exists' },
        { path: parsePath('/b'), is: { path: 4, version: 5 } },
        { path: parsePath('/c'), is: 'none' },
      ],
      then: [
        { op: 'write', path: parsePath('/a'), bytes: Buffer.from('v'), options: { at: 3 } },
        { op: 'mkdir', path: parsePath('/d') },
        { op: 'symlink', path: parsePath('/l'), target: 'x' },
        { op: 'rename', path: parsePath('/a'), to: parsePath('/z'), options: { replace: true } },
        { op: 'setStat', path: parsePath('/z'), changes: { mode: 0o600 }, options: {} },
        { op: 'read', path: parsePath('/z') },
      ],
      else: [
        { op: 'create', path: parsePath('/e') },
        { op: 'remove', path: parsePath('/e'), options: { recursive: true } },
        { op: 'stat', path: parsePath('/e') },
      ],
    }
    const bytes = request(txnOperation, given)
    expect(txnOperation.readArgs(new Reader(bytes), contexts())).toEqual(given)
    expect(pb.TxnRequest.decode(bytes).then.map(({ operation }) => operation?.$case)).toEqual([
      'write',
      'mkdir',
      'symlink',
      'rename',
      'setStat',
      'read',
    ])
  })

  it('batches of events cross the wire', () => {
    const event: WatchEvent = {
      type: 'rename',
      path: parsePath('/to'),
      from: parsePath('/from'),
      subtree: true,
      stat,
      previous: stat,
      bytes: new Uint8Array(0),
      actor: 'a',
      time: 5,
      cause: 'c',
      position,
    }
    const bytes = answer(writeBatch, { events: [event, { ...event, type: 'remove', bytes: undefined }], position })
    const read = readBatch(new Reader(bytes))
    expect(read.events[0]).toEqual({ ...event, bytes: Buffer.alloc(0) })
    expect(read.events[1]!.bytes).toBeUndefined()
    expect(pb.WatchBatch.decode(bytes).events[0]).toMatchObject({ type: 3, from: '/from', subtree: true })
  })

  it('failures cross the wire with all their fields', () => {
    for (const kind of errorKinds) {
      const error = new NineError({ kind, op: 'store.write', path: '/p', message: 'm', retryable: true, outcome: 'unknown', resume: 'r' })
      const writer = new Writer()
      writeError(writer, error)
      const bytes = writer.takeOne()
      expect(readError(new Reader(bytes)).fields).toEqual(error.fields)
      expect(types.Error.decode(bytes)).toMatchObject({ kind: errorKinds.indexOf(kind), path: '/p', outcomeUnknown: true, resume: 'r' })
    }
  })

  it('unknown fields, wrong types and bad paths of requests are refused, unknown fields of answers are not', () => {
    const extra = new Writer()
    extra.optionalUint(99, 1)
    const more = extra.takeOne()
    const good = request(statOperation, { path: parsePath('/a'), options: undefined })
    expect(() => statOperation.readArgs(new Reader(Buffer.concat([good, more])), contexts())).toThrow('field 99')
    expect(statOperation.readResult(new Reader(Buffer.concat([answer(statOperation.writeResult, { stat, position }), more]))).stat).toEqual(
      stat,
    )
    const wrong = new Writer()
    wrong.optionalUint(2, 5)
    expect(() => statOperation.readArgs(new Reader(wrong.takeOne()), contexts())).toThrow('field 2')
    for (const [path, kind] of [
      ['relative', 'invalid'],
      ['/nul\0', 'invalid'],
      [`/${'x'.repeat(256)}`, 'name_too_long'],
      [`/${'x/'.repeat(520)}`, 'name_too_long'],
    ] as const) {
      const writer = new Writer()
      writer.string(2, path)
      expect(() => statOperation.readArgs(new Reader(writer.takeOne()), contexts())).toThrow(expect.objectContaining({ kind }) as Error)
    }
  })

  it('random bytes never do worse than a WireError or NineError', () => {
    const all: Messages<never, unknown>[] = [
      statOperation,
      listOperation,
      readOperation,
      writeOperation,
      txnOperation,
      openOperation,
    ] as never
    fc.assert(
      fc.property(fc.uint8Array({ maxLength: 120 }), fc.nat(all.length - 1), (bytes, index) => {
        try {
          all[index]!.readArgs(new Reader(Buffer.from(bytes)), contexts())
        } catch (error) {
          expect(['WireError', 'NineError']).toContain((error as Error).name)
        }
      }),
      { numRuns: 5_000 },
    )
  })
})
