/**
 * Failures over gRPC calls: the canonical code of their kind, their message, and in the trailer `nine-error-bin` the whole of them
 * (message nine.v1.Error).
 */
import { Reader, Writer } from '../../proto/protobuf.ts'
import { errorTable } from '../errors.ts'
import { NineError } from '../errors.ts'
import { readError, writeError } from './fields.ts'

/** The trailer's name. */
export const errorTrailer = 'nine-error-bin'

/** Code, text and trailer of a failure. */
export function grpcStatusOf(error: NineError): { readonly code: number; readonly details: string; readonly trailer: Buffer } {
  const writer = new Writer()
  writeError(writer, error)
  return { code: errorTable[error.kind].grpc, details: error.message, trailer: writer.takeOne() }
}

/** The failure that a call's error carries in its trailer; undefined when it carries none. */
export function grpcFailure(error: unknown, op: string): NineError | undefined {
  const { metadata } = error as { metadata?: { get(name: string): unknown[] } }
  const trailer = metadata?.get(errorTrailer)[0]
  if (!(trailer instanceof Uint8Array)) return undefined
  try {
    return readError(new Reader(Buffer.from(trailer)))
  } catch (cause) {
    return new NineError({ kind: 'internal', op, message: 'the failure cannot be read', cause })
  }
}
