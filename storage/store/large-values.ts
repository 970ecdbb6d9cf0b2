/**
 * Mutations whose new value is too large for a record: its chunks are made first, then the change that names them.
 *
 * V1 Chunks are durable, on a majority's disks where there are others, before the command is proposed, and pinned until it is applied.
 * V2 A change at an offset is made from the value as it stands and names the version it was made from; when the file has
 *    moved on meanwhile, it is made again. Changes of one file made this way wait for each other. A replica that lags makes one
 *    try in vain at most: `needs_chunks` is answered here when the state here is the one that gave it.
 */
import { nodeAt } from '../apply/walk.ts'
import { isInline, ValueBuilder, type BuiltValue } from '../blob/value-builder.ts'
import { checkDeadline, type Context } from '../../namespace/context.ts'
import { isNineError, NineError } from '../../namespace/errors.ts'
import type { IfMatch } from '../../namespace/file-server.ts'
import { limits } from '../../namespace/limits.ts'
import type { Command, Content, NodeRecord, Outcome, TreeCommand, WriteContent } from '../model.ts'
import { sizeOf } from './answers.ts'
import type { MadeValue, StoreCore } from './core.ts'

type WriteCommand = Extract<TreeCommand, { op: 'write' }>
type SetStatCommand = Extract<TreeCommand, { op: 'setStat' }>
type TxnCommand = Extract<Command, { op: 'txn' }>

export class LargeValues {
  readonly #core: StoreCore
  /** Changes under way by path, each the last of its line. */
  readonly #lines = new Map<string, Promise<unknown>>()

  constructor(core: StoreCore) {
    this.#core = core
  }

  /** A whole new value. */
  async replace(context: Context, op: string, command: WriteCommand, bytes: Uint8Array): Promise<Outcome> {
    const builder = this.#builder({ kind: 'none' })
    try {
      await builder.write(0, bytes)
      const built = await builder.finish()
      const { path } = command.target
      const made = [{ built, base: undefined }]
      return await this.#core.proposeValues(context, op, path, { ...command, content: contentOf(built, undefined) }, made)
    } catch (error) {
      throw isNineError(error) ? error.at(command.target.path, op) : error
    } finally {
      await builder.release()
    }
  }

  /** A change of part of a value, or of its size, that apply answered with `needs_chunks`. */
  async change(context: Context, op: string, command: WriteCommand | SetStatCommand): Promise<Outcome> {
    const { path } = command.target
    return this.#inLine(path, async () => {
      for (;;) {
        checkDeadline(context, op, path)
        const node = this.#nodeOf(command.target)
        const builder = this.#builder(node?.content ?? { kind: 'none' })
        try {
          if (command.op === 'setStat') await builder.truncate(command.size ?? builder.size)
          else await applyContent(builder, command.content)
          const built = await builder.finish()
          const made = [{ built, base: node?.content }]
          const outcome = await this.#core.proposeValues(context, op, path, rewritten(command, node, built), made)
          if (outcome.kind !== 'needs_chunks') return outcome
        } catch (error) {
          throw isNineError(error) ? error.at(path, op) : error
        } finally {
          await builder.release()
        }
      }
    })
  }

  /** A transaction with writes whose values are too large for records. */
  async txn(context: Context, op: string, command: TxnCommand): Promise<Outcome> {
    for (let attempt = 0; ; attempt++) {
      checkDeadline(context, op)
      const builders: ValueBuilder[] = []
      const values: MadeValue[] = []
      try {
        const made = {
          ...command,
          then: await this.#withChunks(command.then, attempt > 0, builders, values),
          else: await this.#withChunks(command.else, attempt > 0, builders, values),
        }
        const outcome = await this.#core.proposeValues(context, op, '', made, values)
        if (outcome.kind !== 'needs_chunks') return outcome
        if (attempt > txn_attempts) {
          throw new NineError({ kind: 'overloaded', op, message: 'the large files of this transaction change faster than it can be made' })
        }
      } finally {
        for (const builder of builders) await builder.release()
      }
    }
  }

  /** `partly`: changes of part of a file too, made from the file as it is before the transaction. */
  async #withChunks(
    operations: TxnCommand['then'],
    partly: boolean,
    builders: ValueBuilder[],
    values: MadeValue[],
  ): Promise<TxnCommand['then']> {
    const made: TxnCommand['then'][number][] = []
    const touched = new Set<string>()
    for (const operation of operations) {
      if (operation.op !== 'write' && operation.op !== 'setStat') {
        made.push(operation)
        continue
      }
      const { path } = operation.target
      const isWhole = operation.op === 'write' && operation.content.kind === 'replace'
      const node = this.#nodeOf(operation.target)
      if (!(isWhole ? operation.content.bytes.length > limits.inline_bytes_max : partly && endsLarge(operation, node))) {
        made.push(operation)
        touched.add(path)
        continue
      }
      if (touched.has(path) && !isWhole) {
        const message = 'a transaction changes part of a large file at most once'
        throw new NineError({ kind: 'unsupported', op: 'store.txn', path, message })
      }
      touched.add(path)
      const builder = this.#builder(isWhole ? { kind: 'none' } : (node?.content ?? { kind: 'none' }))
      builders.push(builder)
      if (operation.op === 'setStat') await builder.truncate(operation.size ?? builder.size)
      else await applyContent(builder, operation.content)
      const built = await builder.finish()
      values.push({ built, base: isWhole ? undefined : node?.content })
      const content = contentOf(built, isWhole ? undefined : baseOf(node))
      if (operation.op === 'write') made.push({ ...operation, content })
      else made.push(resizing(operation, content))
    }
    return made
  }

  #builder(base: Content): ValueBuilder {
    const { blobs: store, pins } = this.#core
    return new ValueBuilder({ store, pins, base: base.kind === 'blob' ? base.blob : base.kind === 'inline' ? base.bytes : undefined })
  }

  #nodeOf(target: TreeCommand['target']): NodeRecord | undefined {
    const view = this.#core.tree.newest
    return target.ino === undefined ? nodeAt(view, target.path) : view.node(target.ino)
  }

  /** V2 */
  async #inLine<T>(path: string, work: () => Promise<T>): Promise<T> {
    const turn = (this.#lines.get(path) ?? Promise.resolve()).then(work)
    const settled = turn.then(ignore, ignore)
    this.#lines.set(path, settled)
    try {
      return await turn
    } finally {
      if (this.#lines.get(path) === settled) this.#lines.delete(path)
    }
  }
}

const txn_attempts = 16

function ignore(): void {
  // Whoever waits in line does not care how the one before ended.
}

async function applyContent(builder: ValueBuilder, content: WriteContent): Promise<void> {
  if (content.kind === 'append') await builder.append(content.bytes)
  else if (content.kind === 'splice') await builder.write(content.offset, content.bytes)
  else if (content.kind === 'replace') await builder.write(0, content.bytes)
}

function contentOf(built: BuiltValue, base: IfMatch | undefined): WriteContent {
  return isInline(built) ? { kind: 'replace', bytes: built.inline, base } : { kind: 'blob', blob: built, base }
}

function baseOf(node: NodeRecord | undefined): IfMatch {
  return node === undefined ? 'none' : { path: node.ino, version: node.version }
}

/** The command that puts the built value in place of `node`'s, on condition that it is still that one. */
function rewritten(command: WriteCommand | SetStatCommand, node: NodeRecord | undefined, built: BuiltValue): Command {
  const content = contentOf(built, baseOf(node))
  if (command.op === 'write') return { ...command, content }
  const write: TreeCommand = {
    op: 'write',
    target: command.target,
    content,
    mustExist: true,
    ifMatch: command.ifMatch,
    modifiedAt: command.modifiedAt,
  }
  const { mode, owner, group, contentType } = command
  if (mode === undefined && owner === undefined && group === undefined && contentType === undefined) return write
  return { op: 'txn', if: [], then: [write, { ...command, ifMatch: undefined, size: undefined }], else: [] }
}

/** One operation for one, so that results keep their places. */
function resizing(operation: SetStatCommand, content: WriteContent): TreeCommand {
  const { target, ifMatch, modifiedAt, mode, owner, group, contentType } = operation
  if (mode === undefined && owner === undefined && group === undefined && contentType === undefined) {
    return { op: 'write', target, content, mustExist: true, ifMatch, modifiedAt }
  }
  const message = 'a transaction changes the size of a large file and its other attributes in two operations'
  throw new NineError({ kind: 'unsupported', op: 'store.txn', path: target.path, message })
}

function endsLarge(operation: WriteCommand | SetStatCommand, node: NodeRecord | undefined): boolean {
  const size = node === undefined ? 0 : sizeOf(node)
  if (operation.op === 'setStat')
    return operation.size !== undefined && (node?.content.kind === 'blob' || operation.size > limits.inline_bytes_max)
  const { content } = operation
  if (content.kind === 'append') return node?.content.kind === 'blob' || size + content.bytes.length > limits.inline_bytes_max
  if (content.kind === 'splice') return node?.content.kind === 'blob' || content.offset + content.bytes.length > limits.inline_bytes_max
  return false
}
