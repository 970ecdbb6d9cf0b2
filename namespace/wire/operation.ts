/**
 * What an operation is to the wire: its frame type, its messages in both directions, and the call of the FileServer that serves it.
 * Unary gRPC and sessions use the same ones.
 */
import { frameType } from '../../proto/frames.ts'
import type { Reader, Writer } from '../../proto/protobuf.ts'
import type { Context } from '../context.ts'
import type { FileServer } from '../file-server.ts'
import type { ContextReader } from './context.ts'

/**
 * What a caller may do when the connection is lost before the answer: `again` it reads or repeats without harm; `once` it
 * is a mutation that carries (client, seq), so the same one may be sent again; `never` it needs this very connection.
 */
export type Repeat = 'again' | 'once' | 'never'

/** How messages of an operation are written and read. */
export interface Messages<Args, Result> {
  /** Type of its frames; the answer's has the answer bit. */
  readonly type: number
  /** Verb of its errors: `remote.NAME`. */
  readonly name: string
  readonly repeat: Repeat
  /** It may be repeated without harm, and changes something all the same: not answered, its outcome is unknown. */
  readonly isChange?: true
  /** Fields 2 and on of the request; field 1 is the Context. */
  readonly writeArgs: (writer: Writer, args: Args) => void
  /** The whole request. @throws WireError, NineError of the path and of the context */
  readonly readArgs: (reader: Reader, context: ContextReader) => Args
  readonly writeResult: (writer: Writer, result: Result) => void
  readonly readResult: (reader: Reader) => Result
}

/** An operation of FileServer. */
export interface Operation<Args, Result> extends Messages<Args, Result> {
  readonly serve: (server: FileServer, context: Context, args: Args) => Promise<Result>
}

/** Whether something that was sent and not answered may have changed anything. */
export function mayChange({ repeat, type, isChange }: Messages<unknown, unknown>): boolean {
  return isChange === true || (repeat !== 'again' && type !== frameType.readHandle && type !== frameType.statHandle)
}

/** The path that a failure of `args` names. */
export function pathOf(args: unknown): string {
  const path = (args as { path?: unknown } | undefined)?.path
  return typeof path === 'string' ? path : ''
}
