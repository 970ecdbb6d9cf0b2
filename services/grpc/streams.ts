/** Streaming calls: watches, and files of any size in both directions. */
import type { ServerReadableStream, ServerWritableStream, sendUnaryData } from '@grpc/grpc-js'
import { Reader, Writer } from '../../proto/protobuf.ts'
import type { Context } from '../../namespace/context.ts'
import { NineError } from '../../namespace/errors.ts'
import type { FileServer, MutationResult } from '../../namespace/file-server.ts'
import { B, refuseField } from '../../namespace/wire/fields.ts'
import { writeMutationResult, writeOperation } from '../../namespace/wire/mutations.ts'
import type { WriteArgs } from '../../namespace/wire/mutations.ts'
import { readOperation } from '../../namespace/wire/reads.ts'
import { watchMessages, writeBatch } from '../../namespace/wire/watch.ts'
import { begin, statusOf } from './calls.ts'
import type { CallOptions } from './calls.ts'

const part_bytes = 256 * 1024

type Answers = ServerWritableStream<Buffer, Buffer>

/** Events until the caller cancels. */
export async function watchCall(options: CallOptions, call: Answers): Promise<void> {
  try {
    const { server, context, args } = await begin(options, call, call.request, (reader, contexts) =>
      watchMessages.readArgs(reader, contexts),
    )
    const batches = server.watch({ ...context, deadline: Infinity }, args.path, args.options)
    for await (const batch of batches) {
      if (call.cancelled) return
      await send(call, (writer) => writeBatch(writer, batch))
    }
    call.end()
  } catch (error) {
    call.emit('error', statusOf(error))
  }
}

/** A file part by part: its stat with the first. All parts show one version, or the call fails with `conflict`. */
export async function readStreamCall(options: CallOptions, call: Answers): Promise<void> {
  try {
    const { server, context, args } = await begin(options, call, call.request, (reader, contexts) =>
      readOperation.readArgs(reader, contexts),
    )
    const { path, options: range } = args
    const start = range?.offset ?? 0
    const wanted = range?.length ?? Infinity
    let sent = 0
    let first: { readonly path: number; readonly version: number } | undefined
    while (!call.cancelled) {
      const part = await server.read(context, path, { ...range, offset: start + sent, length: Math.min(part_bytes, wanted - sent) })
      const { qid, kind, size } = part.stat
      if (first !== undefined && (first.path !== qid.path || first.version !== qid.version)) {
        throw new NineError({
          kind: 'conflict',
          op: 'grpc.readStream',
          path,
          message: 'the file was changed while it was read',
          retryable: true,
        })
      }
      first = qid
      sent += part.bytes.length
      await send(call, (writer) => readOperation.writeResult(writer, part))
      // What is computed comes whole with one read; the next record of a stream is for the next call.
      if (kind !== 'file' || part.bytes.length === 0 || sent >= wanted || start + sent >= (size ?? 0)) break
    }
    call.end()
  } catch (error) {
    call.emit('error', statusOf(error))
  }
}

/** One message, and until there is room for the next. */
function send(call: Answers, message: (writer: Writer) => void): Promise<void> {
  const writer = new Writer()
  message(writer)
  writer.endUnit(() => undefined)
  return new Promise((resolve) => {
    if (call.write(writer.takeOne())) return resolve()
    const go = (): void => {
      call.off('drain', go)
      call.off('cancelled', go)
      resolve()
    }
    call.on('drain', go)
    call.on('cancelled', go)
  })
}

/** A file from many messages: staged, and published whole when the last has come. */
export async function writeStreamCall(
  options: CallOptions,
  call: ServerReadableStream<Buffer, Buffer>,
  answer: sendUnaryData<Buffer>,
): Promise<void> {
  let open: { readonly server: FileServer; readonly context: Context; readonly handle: number } | undefined
  try {
    let at: number | 'append' = 0
    for await (const message of call as AsyncIterable<Buffer>) {
      let bytes: Uint8Array
      if (open === undefined) {
        const { server, context, args } = await begin(options, call, message, (reader, contexts) =>
          writeOperation.readArgs(reader, contexts),
        )
        at = typeof args.options?.at === 'number' || args.options?.at === 'append' ? args.options.at : 0
        open = { server, context, handle: await openFor(server, context, args) }
        bytes = args.bytes
      } else {
        bytes = readPart(new Reader(message))
      }
      if (bytes.length === 0) continue
      await open.server.writeHandle(open.context, open.handle, bytes, at)
      if (at !== 'append') at += bytes.length
    }
    // A call that is cancelled ends its messages first, and says so a moment later.
    await new Promise((resolve) => setImmediate(resolve))
    if (open === undefined) throw new NineError({ kind: 'invalid', op: 'grpc.writeStream', message: 'the first message names the file' })
    if (call.cancelled) throw new NineError({ kind: 'deadline', op: 'grpc.writeStream', message: 'the call was cancelled' })
    const { server, context, handle } = open
    open = undefined
    answer(null, encode(await server.closeHandle(context, handle)))
  } catch (error) {
    // Dropping what was staged fails only where it is gone already.
    if (open !== undefined)
      await open.server
        .closeHandle({ ...open.context, signal: undefined, deadline: Infinity }, open.handle, { discard: true })
        .catch(() => undefined)
    answer(statusOf(error))
  }
}

/** A message after the first: bytes alone. */
function readPart(reader: Reader): Uint8Array {
  let bytes: Uint8Array = new Uint8Array(0)
  for (let key = reader.next(); key !== 0; key = reader.next()) {
    if (key !== B.f7) refuseField(key)
    bytes = reader.bytes()
  }
  return bytes
}

async function openFor(server: FileServer, context: Context, { path, options }: WriteArgs): Promise<number> {
  const { at, mustExist, mode, ...rest } = options ?? {}
  const replaces = at === undefined || at === 'replace'
  const flags = { ...rest, permissions: mode, write: true, create: mustExist !== true, truncate: replaces }
  return (await server.open(context, path, flags)).handle
}

function encode(result: MutationResult): Buffer {
  const writer = new Writer()
  writeMutationResult(writer, result)
  writer.endUnit(() => undefined)
  return writer.takeOne()
}
