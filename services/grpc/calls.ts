/** Unary calls: each a FileServer operation with the messages that sessions use. */
import { Metadata } from '@grpc/grpc-js'
import type { MethodDefinition, sendUnaryData, ServerUnaryCall, StatusObject, UntypedHandleCall } from '@grpc/grpc-js'
import { Reader, WireError, Writer } from '../../proto/protobuf.ts'
import { systemClock } from '../../namespace/clock.ts'
import type { Clock } from '../../namespace/clock.ts'
import type { Context } from '../../namespace/context.ts'
import { NineError, toNineError } from '../../namespace/errors.ts'
import type { FileServer } from '../../namespace/file-server.ts'
import type { Principal } from '../../namespace/rights.ts'
import { ContextReader } from '../../namespace/wire/context.ts'
import { errorTrailer, grpcStatusOf } from '../../namespace/wire/grpc-status.ts'
import { operations } from '../../namespace/wire/operations.ts'
import type { OpaqueOperation } from '../../namespace/wire/operations.ts'

export interface CallOptions {
  readonly clock: Clock
  /** @throws NineError `unauthenticated` */
  authenticate(token: string | undefined): Principal
  namespaceOf(principal: Principal): Promise<FileServer>
  /** Number of the unary calls as a session. */
  readonly session: number
}

type RawMethod = MethodDefinition<Buffer, Buffer>

/** Handles are of sessions: a unary call has none. */
const operationsOfSessions = new Set(['open', 'readHandle', 'writeHandle', 'truncateHandle', 'statHandle', 'syncHandle', 'closeHandle'])

/** Every unary method: its definition, and its handler. */
export function unaryMethods(
  options: CallOptions,
): { readonly name: string; readonly method: RawMethod; readonly handler: UntypedHandleCall }[] {
  return (operations as unknown as readonly OpaqueOperation[])
    .filter(({ name }) => !operationsOfSessions.has(name))
    .map((operation) => {
      const name = operation.name.charAt(0).toUpperCase() + operation.name.slice(1)
      const handler = (call: ServerUnaryCall<Buffer, Buffer>, answer: sendUnaryData<Buffer>): void => {
        serve(operation, options, call).then(
          (bytes) => answer(null, bytes),
          (error: unknown) => answer(statusOf(error)),
        )
      }
      return { name, method: rawMethod(name, false, false), handler }
    })
}

/** A method whose messages are handled as bytes. */
export function rawMethod(name: string, requestStream: boolean, responseStream: boolean): RawMethod {
  const same = (bytes: Buffer): Buffer => bytes
  return {
    path: `/nine.v1.Namespace/${name}`,
    requestStream,
    responseStream,
    requestSerialize: same,
    requestDeserialize: same,
    responseSerialize: same,
    responseDeserialize: same,
  }
}

async function serve(operation: OpaqueOperation, options: CallOptions, call: ServerUnaryCall<Buffer, Buffer>): Promise<Buffer> {
  const { server, context, args } = await begin(options, call, call.request, (reader, contexts) => operation.readArgs(reader, contexts))
  const result = await operation.serve(server, context, args)
  const writer = new Writer()
  operation.writeResult(writer, result)
  writer.endUnit(() => undefined)
  return writer.takeOne()
}

/** What is needed of any kind of call. */
export interface AnyCall {
  readonly metadata: Metadata
  getDeadline(): Date | number
  on(event: 'cancelled', listener: () => void): unknown
}

/** Who calls, for which server, with what. @throws NineError, WireError */
export async function begin<Args>(
  options: CallOptions,
  call: AnyCall,
  request: Buffer,
  readArgs: (reader: Reader, contexts: ContextReader) => Args,
): Promise<{ readonly server: FileServer; readonly context: Context; readonly args: Args; readonly controller: AbortController }> {
  const principal = options.authenticate(tokenOf(call.metadata))
  const controller = new AbortController()
  call.on('cancelled', () => controller.abort())
  const { clock, session } = options
  const contexts = new ContextReader({ principal, session, client: undefined, signal: controller.signal, clock, believesPrincipal: false })
  const args = readArgs(new Reader(request), contexts)
  const own = contexts.take()
  const signal = contexts.controller === undefined ? own.signal : AbortSignal.any([contexts.controller.signal, controller.signal])
  const context = { ...own, signal, deadline: Math.min(own.deadline, deadlineOf(call, clock)) }
  return { server: await options.namespaceOf(principal), context, args, controller }
}

/** The bearer token of a call's metadata. */
export function tokenOf(metadata: Metadata): string | undefined {
  const text = metadata.get('authorization')[0]?.toString() ?? ''
  return /^bearer +([\x21-\x7e]+)$/i.exec(text)?.[1]
}

/** On the clock of contexts. grpc-js counts from the system's time, whatever time the node goes by. */
function deadlineOf(call: AnyCall, clock: Clock): number {
  const deadline = call.getDeadline()
  const at = typeof deadline === 'number' ? deadline : deadline.getTime()
  return Number.isFinite(at) ? clock.monotonic() + at - systemClock.now() / 1000 : Infinity
}

/** What a call fails with. */
export function statusOf(error: unknown): Pick<StatusObject, 'code' | 'details' | 'metadata'> & Error {
  const failure =
    error instanceof WireError
      ? new NineError({ kind: error.kind, op: 'wire.request', message: error.message, cause: error })
      : toNineError(error, 'grpc.call')
  const { code, details, trailer } = grpcStatusOf(failure)
  const metadata = new Metadata()
  metadata.set(errorTrailer, trailer)
  return Object.assign(new Error(details), { code, details, metadata })
}
