/** Streaming calls: watches, and files of any size in both directions. */
import type { ServerReadableStream, ServerWritableStream, sendUnaryData } from '@grpc/grpc-js'
import { Reader, Writer } from '../../proto/protobuf.ts'
import type { Context } from '../../namespace/context.ts'
import { NineError } from '../../namespace/errors.ts'
import type { FileServer, MutationResult } from '../../namespace/file-server.ts'
import { B, refuseField, V } from '../../namespace/wire/fields.ts'
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

interface OpenFile {
  readonly server: FileServer
  readonly context: Context
  readonly handle: number
  /** Where the next bytes go. */
  at: number | 'append'
}

/**
 * A file from many messages: staged, and published whole when the last has come.
 *
 * A call that is cancelled looks here like one that has ended: the library on the other side closes its half first. So the
 * last message says that it is the last.
 */
export async function writeStreamCall(
  options: CallOptions,
  call: ServerReadableStream<Buffer, Buffer>,
  answer: sendUnaryData<Buffer>,
): Promise<void> {
  let file: OpenFile | undefined
  let isWhole = false
  try {
    for await (const message of call as AsyncIterable<Buffer>) {
      if (isWhole) throw invalid('a message follows the last one')
      const part = readPart(message)
      isWhole = part.isLast
      if (file === undefined) {
        if (part.begin === undefined) throw invalid('the first message names the file')
        const begun = await begin(options, call, part.begin, (reader, contexts) => writeOperation.readArgs(reader, contexts))
        file = await openFor(begun.server, begun.context, begun.args)
        await writePart(file, begun.args.bytes)
      } else if (part.begin !== undefined) {
        throw invalid('only the first message names a file')
      }
      await writePart(file, part.data)
    }
    if (file === undefined || !isWhole) throw invalid('the call ended before its last message')
    const { server, context, handle } = file
    file = undefined
    answer(null, encode(await server.closeHandle(context, handle)))
  } catch (error) {
    // Dropping what was staged fails only where it is gone already.
    const unbound = file === undefined ? undefined : { ...file.context, signal: undefined, deadline: Infinity }
    if (file !== undefined && unbound !== undefined) {
      await file.server.closeHandle(unbound, file.handle, { discard: true }).catch(() => undefined)
    }
    const cut = new NineError({ kind: 'deadline', op: 'grpc.writeStream', message: 'the call was cancelled', cause: error })
    answer(statusOf(call.cancelled ? cut : error))
  }
}

function invalid(message: string): NineError {
  return new NineError({ kind: 'invalid', op: 'grpc.writeStream', message })
}

/** @throws WireError */
function readPart(message: Buffer): { readonly begin: Buffer | undefined; readonly data: Buffer; readonly isLast: boolean } {
  const reader = new Reader(message)
  let begin: Buffer | undefined
  let data: Buffer = Buffer.alloc(0)
  let isLast = false
  for (let key = reader.next(); key !== 0; key = reader.next()) {
    if (key === B.f1) begin = reader.bytes()
    else if (key === B.f2) data = reader.bytes()
    else if (key === V.f3) isLast = reader.bool()
    else refuseField(key)
  }
  return { begin, data, isLast }
}

async function writePart(file: OpenFile, bytes: Uint8Array): Promise<void> {
  if (bytes.length === 0) return
  await file.server.writeHandle(file.context, file.handle, bytes, file.at)
  if (file.at !== 'append') file.at += bytes.length
}

async function openFor(server: FileServer, context: Context, { path, options }: WriteArgs): Promise<OpenFile> {
  const { at, mustExist, mode, ...rest } = options ?? {}
  const replaces = at === undefined || at === 'replace'
  const flags = { ...rest, permissions: mode, write: true, create: mustExist !== true, truncate: replaces }
  const { handle } = await server.open(context, path, flags)
  return { server, context, handle, at: replaces ? 0 : at }
}

function encode(result: MutationResult): Buffer {
  const writer = new Writer()
  writeMutationResult(writer, result)
  writer.endUnit(() => undefined)
  return writer.takeOne()
}
