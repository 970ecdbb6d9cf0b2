/**
 * The binding of the package fuse-native 2.2.6 to libfuse 2, used below its own JavaScript: that layer passes paths where handles were
 * meant (fgetattr), loses a time (utimens), builds shell lines out of folder names (unmount), and cannot name the options we need.
 *
 * N1 Every request of the kernel is answered exactly once, with what its operation's promise settles to; no operation throws.
 * N2 Memory that the kernel lent with a request (buffers of read, write and attributes) is not touched after its answer.
 */
import { createRequire } from 'node:module'
import { dirname } from 'node:path'
import type { FuseStat } from './attributes.ts'
import { errno, errnoOf } from './errno.ts'
import type { FuseOperations } from './operations.ts'

/** Exports of the compiled part. Signals and op codes are looked up by operation: `fuse_native_signal_read`, `op_read`. */
export interface Binding {
  readonly sizeof_fuse_thread_t: number
  fuse_native_mount(
    directory: string,
    options: string,
    thread: Buffer,
    self: object,
    allocate: (size: number) => Buffer,
    handlers: readonly Handler[],
    implemented: Uint32Array,
  ): void
  fuse_native_unmount(directory: string, thread: Buffer): void
  readonly [name: string]: unknown
}

/** Called with the request's native record, its op code and its arguments. */
type Handler = (request: Buffer, op: number, ...args: unknown[]) => void
type Signal = (request: Buffer, result: number, ...values: unknown[]) => void

const handlers_max = 35
/** More paths than this one mount can have: PATH_MAX, and the size the binding copies options into. */
const options_bytes_max = 1000

/** @throws Error of the loader, when the package or libfuse.so.2 is missing */
export function loadBinding(): Binding {
  const here = createRequire(import.meta.url)
  const manifest = here.resolve('fuse-native/package.json')
  const load = createRequire(manifest)('node-gyp-build') as (folder: string) => Binding
  return load(dirname(manifest))
}

export interface NativeMount {
  /** After the mount is gone: let go of the event loop. */
  release(): void
}

/** Resolves when the kernel has begun to talk. @throws Error when the kernel or fusermount refuse; libfuse says why on standard error */
export function mountNative(
  binding: Binding,
  directory: string,
  options: readonly string[],
  operations: FuseOperations,
): Promise<NativeMount> {
  const text = `-o${options.join(',')}`
  if (Buffer.byteLength(text) > options_bytes_max) return Promise.reject(new Error('the mount options are too long'))
  return new Promise((resolve, reject) => {
    const thread = Buffer.alloc(binding.sizeof_fuse_thread_t)
    /** Records of libfuse's threads, which live as long as the process. */
    const records: Buffer[] = []
    const allocate = (size: number): Buffer => {
      const record = Buffer.alloc(size)
      records.push(record)
      return record
    }
    const self = { thread, records }
    const handlers: Handler[] = Array.from({ length: handlers_max }, () => ignore)
    const implemented = new Uint32Array(handlers_max)
    const put = (name: string, handler: (signal: Signal) => Handler): void => {
      const op = binding[`op_${name}`] as number
      handlers[op] = handler(binding[`fuse_native_signal_${name}`] as Signal)
      implemented[op] = 1
    }
    put('init', (signal) => (request) => {
      signal(request, 0)
      resolve({ release: () => binding.fuse_native_unmount(directory, self.thread) })
    })
    for (const [name, call] of Object.entries(calls)) put(name, (signal) => handlerOf(call, operations, signal))
    try {
      binding.fuse_native_mount(directory, text, thread, self, allocate, handlers, implemented)
    } catch (error) {
      reject(error instanceof Error ? error : new Error(String(error)))
    }
  })
}

function ignore(): void {
  // An operation that is not implemented is never called.
}

type Args = readonly unknown[]

/** How one operation is asked, and what its answer carries beside the result. */
interface Call {
  run(operations: FuseOperations, args: Args, request: Buffer): Promise<unknown>
  /** Result (a count, or 0) and what goes with it. */
  done(value: never, args: Args): readonly [number, ...unknown[]]
  /** What a failure has to carry all the same. */
  failed?(args: Args): readonly unknown[]
}

function handlerOf(call: Call, operations: FuseOperations, signal: Signal): Handler {
  return (request, _op, ...args) => {
    call.run(operations, args, request).then(
      (value) => signal(request, ...call.done(value as never, args)), // N1
      (error: unknown) => signal(request, errnoOf(error), ...(call.failed?.(args) ?? [])),
    )
  }
}

const text = (args: Args, at: number): string => args[at] as string
const count = (args: Args, at: number): number => args[at] as number
const bytes = (args: Args, at: number): Buffer => args[at] as Buffer
/** Sizes and offsets come as their low and high 32 bits. */
const big = (args: Args, at: number): number => count(args, at) + count(args, at + 1) * 2 ** 32
/** The kernel's memory, given back with the answer so that it is detached. */ // N2
const lent = (args: Args, at: number): ArrayBufferLike => bytes(args, at).buffer

const noStat = new Uint32Array(18)

function plain(run: Call['run']): Call {
  return { run, done: () => [0] }
}

function stating(run: Call['run']): Call {
  return { run, done: (stat: FuseStat) => [0, statWords(stat)], failed: () => [noStat] }
}

/** Arguments as in fuse.h of libfuse 2; handles come as numbers. */
const calls: Readonly<Record<string, Call>> = {
  getattr: stating((ops, args) => ops.getattr(text(args, 0))),
  fgetattr: stating((ops, args) => ops.fgetattr(text(args, 0), count(args, 1))),
  statfs: { run: async () => undefined, done: () => [0, statfsWords], failed: () => [statfsWords] },
  readdir: {
    run: (ops, args) => ops.readdir(text(args, 0)),
    done: ({ names, modes }: { names: string[]; modes: number[] }) => [0, names, modes.map(direntWords)],
    failed: () => [[], []],
  },
  readlink: { run: (ops, args) => ops.readlink(text(args, 0)), done: (target: string) => [0, target], failed: () => [''] },
  mknod: plain((ops, args) => ops.mknod(text(args, 0), count(args, 1))),
  mkdir: plain((ops, args) => ops.mkdir(text(args, 0), count(args, 1))),
  symlink: plain((ops, args) => ops.symlink(text(args, 0), text(args, 1))),
  link: plain((ops) => ops.link()),
  unlink: plain((ops, args) => ops.unlink(text(args, 0))),
  rmdir: plain((ops, args) => ops.rmdir(text(args, 0))),
  rename: plain((ops, args) => ops.rename(text(args, 0), text(args, 1))),
  chmod: plain((ops, args) => ops.chmod(text(args, 0), count(args, 1))),
  chown: plain((ops, args) => ops.chown(text(args, 0), count(args, 1), count(args, 2))),
  utimens: plain((ops, args, request) => ops.utimens(text(args, 0), modifiedTime(request, big(args, 1)))),
  truncate: plain((ops, args) => ops.truncate(text(args, 0), big(args, 1))),
  ftruncate: plain((ops, args) => ops.ftruncate(count(args, 1), big(args, 2))),
  open: { run: (ops, args) => ops.open(text(args, 0), count(args, 1)), done: (fd: number) => [0, fd], failed: () => [0] },
  read: {
    run: (ops, args) => ops.read(count(args, 1), bytes(args, 2), count(args, 3), big(args, 4)),
    done: (length: number, args) => [length, 0, lent(args, 2)],
    failed: (args) => [0, lent(args, 2)],
  },
  write: {
    run: (ops, args) => ops.write(count(args, 1), bytes(args, 2), big(args, 4)),
    done: (length: number, args) => [length, 0, lent(args, 2)],
    failed: (args) => [0, lent(args, 2)],
  },
  flush: plain((ops, args) => ops.flush(count(args, 1))),
  fsync: plain((ops, args) => ops.fsync(count(args, 2))),
  fsyncdir: plain((ops, args) => ops.fsyncdir(text(args, 0))),
  release: plain((ops, args) => ops.release(count(args, 1))),
  setxattr: {
    run: (ops, args) => ops.setxattr(text(args, 0), text(args, 1), bytes(args, 2), count(args, 4)),
    done: (_, args) => [0, lent(args, 2)],
    failed: (args) => [lent(args, 2)],
  },
  getxattr: {
    run: async (ops, args) => fill(bytes(args, 2), await ops.getxattr(text(args, 0), text(args, 1))),
    done: (size: number, args) => [size, lent(args, 2)],
    failed: (args) => [lent(args, 2)],
  },
  listxattr: {
    run: async (ops, args) => {
      const names = await ops.listxattr(text(args, 0))
      return fill(bytes(args, 1), Buffer.from(names.map((name) => `${name}\0`).join('')))
    },
    done: (size: number, args) => [size, lent(args, 1)],
    failed: (args) => [lent(args, 1)],
  },
  removexattr: plain((ops, args) => ops.removexattr(text(args, 1))),
}

/** Gives the size; copies when there is room, and no room at all is the question for the size. */
function fill(room: Buffer, value: Buffer): number {
  if (room.length === 0) return value.length
  if (value.length > room.length) return -errno.ERANGE
  value.copy(room)
  return value.length
}

/**
 * The binding passes the time of access twice; the time of modification stands behind it in the request's native record. That the first
 * is found where we look for it says that the second is too.
 */
function modifiedTime(request: Buffer, accessedMs: number): number {
  if (request.length < modified_offset + 8) return accessedMs
  if (Number(request.readBigUInt64LE(accessed_offset)) !== accessedMs) return accessedMs
  return Number(request.readBigUInt64LE(modified_offset))
}

/** Of fuse_thread_locals_t on 64-bit machines. */
const accessed_offset = 104
const modified_offset = 112

const block_bytes = 512
/** What stat(2) suggests for reads and writes: what the kernel hands over at once. */
const blksize = 128 * 1024

function statWords({ mode, uid, gid, size, usedBytes, nlink, mtimeMs }: FuseStat): Uint32Array {
  const words = new Uint32Array(18)
  words[0] = mode
  words[1] = uid
  words[2] = gid
  putBig(words, 3, size)
  words[6] = nlink
  words[9] = blksize
  putBig(words, 10, Math.ceil(usedBytes / block_bytes))
  for (const at of [12, 14, 16]) putBig(words, at, mtimeMs)
  return words
}

/** Of an entry of a listing only its type is passed on. */
function direntWords(mode: number): Uint32Array {
  const words = new Uint32Array(18)
  words[0] = mode
  return words
}

function putBig(words: Uint32Array, at: number, value: number): void {
  words[at] = value % 2 ** 32
  words[at + 1] = Math.floor(value / 2 ** 32)
}

/** A node tells no sizes of its disk: as if there were room for 8 TiB. Words as in statvfs(3). */
const statfsWords = Uint32Array.of(4096, 4096, 2 ** 31, 2 ** 31, 2 ** 31, 2 ** 31, 2 ** 31, 2 ** 31, 0, 0, 255)
