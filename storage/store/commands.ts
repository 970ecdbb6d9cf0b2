/** From the arguments of a FileServer's mutations to the commands of the log. What can be refused without looking at the store is refused here. */
import type { Context } from '../../namespace/context.ts'
import { NineError } from '../../namespace/errors.ts'
import type {
  ConditionOptions,
  CreateOptions,
  RenameOptions,
  StatChanges,
  TxnOperation,
  TxnRequest,
  WriteOptions,
} from '../../namespace/file-server.ts'
import { limits } from '../../namespace/limits.ts'
import type { Path } from '../../namespace/path.ts'
import type { Random } from '../../namespace/random.ts'
import type { Command, CreateFields, TreeCommand, WriteContent } from '../model.ts'

type WriteCommand = Extract<TreeCommand, { op: 'write' }>
type TxnCommand = Extract<Command, { op: 'txn' }>

export function writeCommand(random: Random, path: Path, bytes: Uint8Array, options: WriteOptions | undefined): WriteCommand {
  const op = 'store.write'
  if (bytes.length > limits.write_bytes_max) {
    const message = `one write carries at most ${limits.write_bytes_max} bytes: a handle takes more`
    throw new NineError({ kind: 'too_large', op, path, message })
  }
  if (options === undefined) return { op: 'write', target: { path }, content: { kind: 'replace', bytes } }
  const content = contentOf(bytes, options.at, path)
  return { op: 'write', target: { path }, content, mustExist: options.mustExist, ...createFields(random, options, op, path) }
}

function contentOf(bytes: Uint8Array, at: WriteOptions['at'], path: Path): WriteContent {
  if (at === undefined || at === 'replace') return { kind: 'replace', bytes }
  if (at === 'append') return { kind: 'append', bytes }
  const op = 'store.write'
  if (!Number.isSafeInteger(at) || at < 0) throw new NineError({ kind: 'invalid', op, path, message: `${at} is no offset` })
  if (at + bytes.length > limits.file_bytes_max) {
    throw new NineError({ kind: 'too_large', op, path, message: `a file has at most ${limits.file_bytes_max} bytes` })
  }
  return { kind: 'splice', offset: at, bytes }
}

export function createCommand(
  random: Random,
  kind: 'create' | 'mkdir',
  path: Path,
  options: CreateOptions | undefined,
): Extract<TreeCommand, { op: 'create' | 'mkdir' }> {
  return { op: kind, target: { path }, ...createFields(random, options ?? {}, `store.${kind}`, path) }
}

export function symlinkCommand(random: Random, path: Path, link: string, options: CreateOptions | undefined): TreeCommand {
  const op = 'store.symlink'
  if (link === '' || link.includes('\0')) throw new NineError({ kind: 'invalid', op, path, message: 'a link has a target without NUL' })
  if (Buffer.byteLength(link) > limits.symlink_bytes_max) {
    throw new NineError({ kind: 'name_too_long', op, path, message: `a target has at most ${limits.symlink_bytes_max} bytes` })
  }
  return { op: 'symlink', target: { path }, link, ...createFields(random, options ?? {}, op, path) }
}

export function renameCommand(from: Path, to: Path, options: RenameOptions | undefined): TreeCommand {
  return { op: 'rename', target: { path: from }, to, ifMatch: options?.ifMatch, replace: options?.replace, parents: options?.parents }
}

export function setStatCommand(
  path: Path,
  changes: StatChanges,
  options: ConditionOptions | undefined,
): Extract<TreeCommand, { op: 'setStat' }> {
  const op = 'store.setStat'
  const { mode, owner, group, modifiedAt, contentType, size } = changes
  checkAttributes({ mode, owner, group, modifiedAt, contentType }, op, path)
  if (size !== undefined && (!Number.isSafeInteger(size) || size < 0))
    throw new NineError({ kind: 'invalid', op, path, message: `${size} is no size` })
  if (size !== undefined && size > limits.file_bytes_max) {
    throw new NineError({ kind: 'too_large', op, path, message: `a file has at most ${limits.file_bytes_max} bytes` })
  }
  return { op: 'setStat', target: { path }, ifMatch: options?.ifMatch, mode, owner, group, modifiedAt, contentType, size }
}

/** @throws NineError `too_large` (operations, bytes), `invalid` */
export function txnCommand(random: Random, request: TxnRequest): TxnCommand {
  const operations = [...request.then, ...request.else]
  const op = 'store.txn'
  if (operations.length + request.if.length > limits.txn_operations_max) {
    throw new NineError({ kind: 'too_large', op, message: `a transaction has at most ${limits.txn_operations_max} operations` })
  }
  let bytes = 0
  for (const operation of operations) if (operation.op === 'write') bytes += operation.bytes.length
  if (bytes > limits.txn_bytes_max) {
    throw new NineError({ kind: 'too_large', op, message: `a transaction carries at most ${limits.txn_bytes_max} bytes` })
  }
  const toCommand = (operation: TxnOperation): TxnCommand['then'][number] => txnOperation(random, operation)
  return { op: 'txn', if: request.if, then: request.then.map(toCommand), else: request.else.map(toCommand) }
}

function txnOperation(random: Random, operation: TxnOperation): TxnCommand['then'][number] {
  switch (operation.op) {
    case 'write':
      return writeCommand(random, operation.path, operation.bytes, operation.options)
    case 'create':
    case 'mkdir':
      return createCommand(random, operation.op, operation.path, operation.options)
    case 'symlink':
      return symlinkCommand(random, operation.path, operation.target, operation.options)
    case 'remove':
      return {
        op: 'remove',
        target: { path: operation.path },
        ifMatch: operation.options?.ifMatch,
        recursive: operation.options?.recursive,
      }
    case 'rename':
      return renameCommand(operation.path, operation.to, operation.options)
    case 'setStat':
      return setStatCommand(operation.path, operation.changes, operation.options)
    case 'stat':
    case 'read':
      return { op: operation.op, path: operation.path }
  }
}

function createFields(random: Random, options: CreateOptions, op: string, path: Path): CreateFields {
  const { ifMatch, parents, lease, ttlMs, contentType, mode, modifiedAt } = options
  checkAttributes({ contentType, mode, modifiedAt }, op, path)
  return { ifMatch, parents, lease, ttl: ttlFields(random, ttlMs, op, path), contentType, mode, modifiedAt }
}

/** The lease of its own that a ttl stands for. */
export function ttlFields(random: Random, ttlMs: number | undefined, op: string, path: string): CreateFields['ttl'] {
  if (ttlMs === undefined) return undefined
  checkTtl(ttlMs, op, path)
  return { lease: random.id(), ttlMs }
}

/** @throws NineError `invalid` */
export function checkTtl(ttlMs: number, op: string, path = ''): void {
  const { lease_ttl_ms_min: min, lease_ttl_ms_max: max } = limits
  if (Number.isSafeInteger(ttlMs) && ttlMs >= min && ttlMs <= max) return
  throw new NineError({ kind: 'invalid', op, path, message: `a ttl is a whole number of milliseconds from ${min} to ${max}` })
}

function checkAttributes(attributes: Omit<StatChanges, 'size'>, op: string, path: Path): void {
  const { mode, modifiedAt, contentType, owner, group } = attributes
  if (mode !== undefined && !(Number.isInteger(mode) && mode >= 0 && mode <= 0o7777)) {
    throw new NineError({ kind: 'invalid', op, path, message: 'a mode is a number from 0 to 0o7777' })
  }
  if (modifiedAt !== undefined && !Number.isSafeInteger(modifiedAt)) {
    throw new NineError({ kind: 'invalid', op, path, message: 'a time is a whole number of microseconds' })
  }
  for (const text of [contentType, owner, group]) {
    if (text !== undefined && (Buffer.byteLength(text) > limits.attribute_bytes_max || text.includes('\0'))) {
      throw new NineError({ kind: 'invalid', op, path, message: `an attribute has at most ${limits.attribute_bytes_max} bytes and no NUL` })
    }
  }
}

/** The context of a proposal that stands for nobody's request: it is never a retry. */
export function withoutIdentity(context: Context): Context {
  return { ...context, client: undefined, seq: undefined, digest: undefined }
}
