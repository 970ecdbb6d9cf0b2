/**
 * A 9P server that does what a test tells it: each request is given to `answer`, and what that says is sent. What `answer` leaves
 * (undefined) is answered as a server with one empty file `f` and one directory `d` would; `silence` is not answered at all.
 */
import { createServer } from 'node:net'
import type { AddressInfo, Socket } from 'node:net'
import { decodeRequest } from '../../proto/ninep/decode.ts'
import { MessageWriter } from '../../proto/ninep/encode.ts'
import { MessageFramer } from '../../proto/ninep/framer.ts'
import type { AnswerBody, Dialect, Request, WireAttributes, WireQid, WireStat } from '../../proto/ninep/messages.ts'

export const silence = Symbol('no answer')
/** Bytes that are sent as they are. */
export interface Raw {
  readonly raw: Buffer
  readonly end?: boolean
}
export type Reply = AnswerBody | Raw | typeof silence | undefined
export type Answer = (request: Request, peer: Peer) => Reply | Promise<Reply>

export interface Peer {
  readonly socket: Socket
  /** Answer a request at any time. */
  send(tag: number, body: AnswerBody): void
}

export const directoryQid: WireQid = { type: 0x80, version: 0, path: 1 }
export const fileQid: WireQid = { type: 0, version: 0, path: 2 }

export interface Scripted {
  readonly address: string
  /** Every request of every connection, in order. */
  readonly requests: Request[]
  readonly connections: number
  /** Fids the client has made and not clunked. */
  readonly fids: number
  /** The next request of this type, or one that came and was not waited for. */
  next<T extends Request['type']>(type: T): Promise<Request & { type: T }>
  /** Resolves when the client holds this many fids. */
  whenFids(count: number): Promise<void>
  close(): Promise<void>
}

export async function startScripted(answer: Answer, dialect: Dialect = '9P2000.L'): Promise<Scripted> {
  const requests: Request[] = []
  const seen = new Map<string, number>()
  const fids = new Map<Socket, Set<number>>()
  const waiters = new Set<() => void>()
  const sockets = new Set<Socket>()
  let connections = 0
  const count = (): number => [...fids.values()].reduce((sum, set) => sum + set.size, 0)
  const wake = (): void => {
    for (const waiter of [...waiters]) waiter()
  }
  const until = (isDone: () => boolean): Promise<void> =>
    new Promise((resolve) => {
      const check = (): void => {
        if (!isDone()) return
        waiters.delete(check)
        resolve()
      }
      waiters.add(check)
      check()
    })

  const server = createServer({ noDelay: true }, (socket) => {
    connections++
    sockets.add(socket)
    const held = new Set<number>()
    fids.set(socket, held)
    const writer = new MessageWriter(dialect)
    const framer = new MessageFramer(1024 * 1024)
    const send = (tag: number, body: AnswerBody): void => {
      writer.write({ ...body, tag })
      for (const part of writer.take()) socket.write(part)
    }
    const peer: Peer = { socket, send }
    const received = async (request: Request): Promise<void> => {
      requests.push(request)
      wake()
      const said = await answer(request, peer)
      if (said === silence) return
      if (said !== undefined && 'raw' in said) {
        socket.write(said.raw)
        if (said.end === true) socket.end()
        return
      }
      const body = said ?? usual(request, dialect)
      account(held, request, body)
      if (!socket.destroyed) send(request.tag, body)
      wake()
    }
    socket.on('data', (chunk) => framer.push(chunk, (message) => void received(decodeRequest(message, dialect))))
    socket.on('error', () => undefined)
    socket.on('close', () => {
      sockets.delete(socket)
      fids.delete(socket)
    })
  })
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve))
  return {
    address: `127.0.0.1:${(server.address() as AddressInfo).port}`,
    requests,
    get connections() {
      return connections
    },
    get fids() {
      return count()
    },
    next: async (type) => {
      const nth = seen.get(type) ?? 0
      seen.set(type, nth + 1)
      const all = (): Request[] => requests.filter((request) => request.type === type)
      await until(() => all().length > nth)
      return all()[nth] as never
    },
    whenFids: (wanted) => until(() => count() === wanted),
    close: () => {
      for (const socket of sockets) socket.destroy()
      return new Promise((resolve) => server.close(() => resolve()))
    },
  }
}

/** What the client holds after this answer. */
function account(held: Set<number>, request: Request, body: AnswerBody): void {
  const isError = body.type === 'Rlerror' || body.type === 'Rerror'
  if (request.type === 'Tclunk' || request.type === 'Tremove') held.delete(request.fid)
  if (isError) return
  if (request.type === 'Tattach') held.add(request.fid)
  if (request.type === 'Tauth') held.add(request.afid)
  if (request.type === 'Twalk' && body.type === 'Rwalk' && body.qids.length === request.names.length) held.add(request.newFid)
}

const attributes: WireAttributes = {
  valid: 0x7ff,
  qid: fileQid,
  mode: 0o100644,
  uid: 0,
  gid: 0,
  nlink: 1,
  rdev: 0,
  size: 0,
  blksize: 4096,
  blocks: 0,
  atimeSec: 0,
  atimeNsec: 0,
  mtimeSec: 0,
  mtimeNsec: 0,
  ctimeSec: 0,
  ctimeNsec: 0,
  btimeSec: 0,
  btimeNsec: 0,
  gen: 0,
  dataVersion: 0,
}

export function sized(size: number): AnswerBody {
  return { type: 'Rgetattr', attributes: { ...attributes, size } }
}

/** The stat of a symbolic link. */
export function linked(): AnswerBody {
  return { type: 'Rgetattr', attributes: { ...attributes, mode: 0o120777 } }
}

/** The stat of `f` in 9P2000. */
export const plan9Stat: WireStat = {
  type: 0,
  dev: 0,
  qid: fileQid,
  mode: 0o644,
  atime: 0,
  mtime: 0,
  length: 0,
  name: 'f',
  uid: '',
  gid: '',
  muid: '',
}

function usual(request: Request, dialect: Dialect): AnswerBody {
  switch (request.type) {
    case 'Tversion':
      return { type: 'Rversion', msize: Math.min(request.msize, 8192), version: dialect }
    case 'Tattach':
      return { type: 'Rattach', qid: directoryQid }
    case 'Twalk':
      return { type: 'Rwalk', qids: request.names.map((name) => (name === 'f' ? fileQid : directoryQid)) }
    case 'Tgetattr':
      return sized(0)
    case 'Tlopen':
      return { type: 'Rlopen', qid: fileQid, iounit: 0 }
    case 'Tread':
      return { type: 'Rread', data: Buffer.alloc(0) }
    case 'Treaddir':
      return { type: 'Rreaddir', data: Buffer.alloc(0) }
    case 'Twrite':
      return { type: 'Rwrite', count: request.data.length }
    case 'Tclunk':
      return { type: 'Rclunk' }
    case 'Tflush':
      return { type: 'Rflush' }
    case 'Tfsync':
      return { type: 'Rfsync' }
    case 'Tsetattr':
      return { type: 'Rsetattr' }
    default:
      return dialect === '9P2000.L' ? { type: 'Rlerror', errno: 95 } : { type: 'Rerror', ename: 'unsupported' }
  }
}
