/** A machine over a tree in memory, driven command by command. */
import { NineError } from '../../namespace/errors.ts'
import type { ClientIdentity } from '../../namespace/context.ts'
import { parsePath, type Path } from '../../namespace/path.ts'
import { Machine, type Applied } from '../../storage/apply/machine.ts'
import { nodeAt } from '../../storage/apply/walk.ts'
import type {
  Command,
  Entry,
  NodeRecord,
  Outcome,
  StoredMutation,
  StoreEvent,
  StoredTxn,
  TreeCommand,
  WriteContent,
} from '../../storage/model.ts'
import { MemoryTree } from './memory-tree.ts'

export interface Caller {
  readonly actor?: string
  readonly groups?: readonly string[]
  readonly client?: ClientIdentity
  readonly seq?: number
  readonly digest?: string
}

export const owner = 'root'

export class Driven {
  readonly tree = new MemoryTree(owner)
  machine = new Machine({ owner })
  index = 0
  last: Applied | undefined

  apply(command: Command, caller: Caller = {}): Outcome {
    this.index++
    this.last = this.machine.apply(this.tree, entryOf(this.index, command, caller))
    return this.last.outcome
  }

  /** The result of a mutation. @throws the NineError it was answered with */
  do(command: Command, caller?: Caller): StoredMutation {
    const outcome = this.apply(command, caller)
    if (outcome.kind === 'mutation') return outcome.result
    throw failureOf(outcome)
  }

  txn(command: Extract<Command, { op: 'txn' }>, caller?: Caller): StoredTxn {
    const outcome = this.apply(command, caller)
    if (outcome.kind === 'txn') return outcome.result
    throw failureOf(outcome)
  }

  /** Kind of the error that a command is answered with, or what else it is answered with. */
  kind(command: Command, caller?: Caller): string {
    const outcome = this.apply(command, caller)
    return outcome.kind === 'error' ? outcome.error.kind : outcome.kind
  }

  get events(): readonly StoreEvent[] {
    return this.last?.revision?.events ?? []
  }

  /** `type path` of every event of the last entry. */
  get told(): string[] {
    return this.events.map(
      ({ type, path, from, subtree }) => `${type} ${from === undefined ? '' : `${from} -> `}${path}${subtree ? '/' : ''}`,
    )
  }

  node(path: string): NodeRecord {
    const node = nodeAt(this.tree, parsePath(path))
    if (node === undefined) throw new Error(`nothing at ${path}`)
    return node
  }

  has(path: string): boolean {
    return nodeAt(this.tree, parsePath(path)) !== undefined
  }

  text(path: string): string {
    const { content } = this.node(path)
    return content.kind === 'inline' ? Buffer.from(content.bytes).toString() : content.kind
  }
}

export function failureOf(outcome: Outcome): Error {
  return outcome.kind === 'error' ? new NineError(outcome.error) : new Error(`answered ${outcome.kind}`)
}

export function entryOf(index: number, command: Command, caller: Caller = {}): Entry {
  const { actor = owner, groups = [], client, seq, digest } = caller
  return { group: 1, term: 1, index, time: index * 10, actor, groups, client, seq, digest, cause: undefined, trace: undefined, command }
}

export function at(path: string): { readonly path: Path } {
  return { path: parsePath(path) }
}

export function bytes(text: string): Uint8Array {
  return new Uint8Array(Buffer.from(text))
}

type Fields = Partial<Omit<Extract<TreeCommand, { op: 'write' }>, 'op' | 'target' | 'content'>>

export function write(path: string, text: string, fields: Fields = {}): Extract<TreeCommand, { op: 'write' }> {
  return { op: 'write', target: at(path), content: { kind: 'replace', bytes: bytes(text) }, ...fields }
}

export function put(path: string, content: WriteContent, fields: Fields = {}): TreeCommand {
  return { op: 'write', target: at(path), content, ...fields }
}

export function make(op: 'create' | 'mkdir', path: string, fields: Fields = {}): TreeCommand {
  return { op, target: at(path), ...fields }
}

export function remove(path: string, recursive = false): TreeCommand {
  return { op: 'remove', target: at(path), recursive }
}

export function rename(path: string, to: string, fields: { replace?: boolean; parents?: boolean } = {}): TreeCommand {
  return { op: 'rename', target: at(path), to: parsePath(to), ...fields }
}

/** Anything as text to compare, bytes as hex whatever class they are of. */
export function textOf(value: unknown): string {
  return JSON.stringify(plain(value))
}

function plain(value: unknown): unknown {
  if (ArrayBuffer.isView(value)) return Buffer.from(value.buffer, value.byteOffset, value.byteLength).toString('hex')
  if (value instanceof Map) return [...(value as Map<unknown, unknown>)].map(plain)
  if (Array.isArray(value)) return value.map(plain)
  if (typeof value !== 'object' || value === null) return value
  return Object.fromEntries(Object.entries(value).map(([key, field]) => [key, plain(field)]))
}
