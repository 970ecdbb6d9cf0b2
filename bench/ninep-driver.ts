/**
 * Drives two 9P2000.L servers in turn from a process of its own, with raw messages: no cache, no client library, the same work at both.
 * Forked by bench/ninep.ts, which gives it a job and takes its figures.
 */
import { randomFillSync } from 'node:crypto'
import { connect } from 'node:net'
import type { Socket } from 'node:net'
import { decodeAnswer } from '../proto/ninep/decode.ts'
import { MessageWriter } from '../proto/ninep/encode.ts'
import { MessageFramer } from '../proto/ninep/framer.ts'
import { noFid, noTag } from '../proto/ninep/messages.ts'
import type { Answer, Request, RequestBody } from '../proto/ninep/messages.ts'
import { decodeDirents } from '../proto/ninep/records.ts'

export interface Place {
  readonly address: string
  readonly aname: string
}

export type Job = { readonly places: readonly Place[]; readonly sizes: NinepSizes } & (
  { readonly kind: 'bulk'; readonly msize: number } | { readonly kind: 'small' }
)

export interface NinepSizes {
  readonly bulkBytes: number
  /** Small operations with 64 outstanding; an eighth of it one at a time. */
  readonly operations: number
  readonly entries: number
  readonly rounds: number
}

/** A figure of each place. */
export type Figures = Record<string, number[]>

const dialect = '9P2000.L'
const msize_max = 1024 * 1024
/** P9_IOHDRSZ: what Linux leaves for headers. */
const header_room = 24
const streams = 8
const flag = { readOnly: 0, readWrite: 2, create: 0o100, directory: 0o200_000 } as const

/** One connection. A tag is a slot: it carries one request at a time, and the next when that is answered. */
class Link {
  readonly socket: Socket
  msize = 0
  readonly #writer = new MessageWriter(dialect)
  readonly #onAnswer: ((answer: Answer) => void)[] = []

  constructor(socket: Socket) {
    this.socket = socket
    socket.setNoDelay(true)
    const framer = new MessageFramer(msize_max)
    const take = (message: Buffer): void => {
      const answer = decodeAnswer(message, dialect)
      this.#onAnswer[answer.tag]!(answer)
    }
    socket.on('data', (chunk: Buffer) => {
      framer.push(chunk, take)
      this.#send()
    })
    socket.once('close', () => process.exit(1))
  }

  static async open({ address, aname }: Place, msize: number): Promise<Link> {
    const at = address.lastIndexOf(':')
    const socket = connect(Number(address.slice(at + 1)), address.slice(0, at))
    await new Promise((resolve, reject) => socket.once('connect', resolve).once('error', reject))
    const link = new Link(socket)
    const version = await link.ask({ type: 'Tversion', msize, version: dialect }, noTag)
    if (version.type === 'Rversion') link.msize = version.msize
    await link.ask({ type: 'Tattach', fid: 0, afid: noFid, uname: 'root', aname, nUname: process.getuid?.() ?? 0 })
    return link
  }

  close(): void {
    this.socket.removeAllListeners('close').destroy()
  }

  ask(body: RequestBody, tag = 0): Promise<Answer> {
    return new Promise((resolve, reject) => {
      this.#onAnswer[tag] = (answer) => {
        if (answer.type === 'Rlerror') reject(new Error(`${body.type} was refused: errno ${answer.errno}`))
        else resolve(answer)
      }
      this.#writer.write({ ...body, tag })
      this.#send()
    })
  }

  /** Each of `slots` sends what `next` gives it, one after the other, until that is nothing. @returns seconds */
  async run(slots: number, next: (slot: number, answer: Answer | undefined) => Request | undefined): Promise<number> {
    const begun = performance.now()
    await new Promise<void>((resolve, reject) => {
      let active = slots
      const go = (slot: number, answer: Answer | undefined): void => {
        if (answer?.type === 'Rlerror') return reject(new Error(`errno ${answer.errno}`))
        const request = next(slot, answer)
        if (request !== undefined) this.#writer.write(request)
        else if (--active === 0) resolve()
      }
      for (let slot = 0; slot < slots; slot++) {
        this.#onAnswer[slot] = (answer) => go(slot, answer)
        go(slot, undefined)
      }
      this.#send()
    })
    return (performance.now() - begun) / 1000
  }

  #send(): void {
    if (this.#writer.length === 0) return
    this.socket.cork()
    for (const part of this.#writer.take()) this.socket.write(part)
    this.socket.uncork()
  }
}

process.once('message', (job: Job) => {
  void perform(job).then((figures) => process.send!(figures, () => process.exit()))
})

async function perform(job: Job): Promise<Figures> {
  const msize = job.kind === 'bulk' ? job.msize : 65_536
  const links: Link[] = []
  for (const place of job.places) links.push(await Link.open(place, msize))
  const figures: Figures = { msize: links.map((link) => link.msize) }
  const measure = async (name: string, rounds: number, work: (link: Link) => Promise<number>): Promise<void> => {
    const found: number[][] = links.map(() => [])
    // In turn, so that what else the machine does falls on both.
    for (let round = 0; round < rounds; round++) for (const [i, link] of links.entries()) found[i]!.push(await work(link))
    figures[name] = found.map(median)
  }
  if (job.kind === 'bulk') await bulk(job.sizes.bulkBytes, measure)
  else await small(job.sizes, measure)
  for (const link of links) link.close()
  return figures
}

type Measure = (name: string, rounds: number, work: (link: Link) => Promise<number>) => Promise<void>

/** MiB/s of one file in sequence, the write with the fsync at its end. */
async function bulk(bytes: number, measure: Measure): Promise<void> {
  const mebibytes = bytes / 2 ** 20
  const pieces = Array.from({ length: streams }, () => randomFillSync(Buffer.alloc(msize_max)))
  await measure('write', 1, async (link) => {
    await link.ask({ type: 'Twalk', fid: 0, newFid: 1, names: [] })
    await link.ask({ type: 'Tlcreate', fid: 1, name: `bulk-${link.msize}`, flags: flag.readWrite | flag.create, mode: 0o644, gid: 0 })
    const length = link.msize - header_room
    let offset = 0
    const seconds = await link.run(streams, (slot) => {
      if (offset >= bytes) return undefined
      const data = pieces[slot]!.subarray(0, Math.min(length, bytes - offset))
      // No two pieces alike: a server that keeps equal ones once would have less to do.
      for (let at = 0; at + 8 <= data.length; at += 4096) data.writeDoubleLE(offset + at, at)
      const request: Request = { type: 'Twrite', tag: slot, fid: 1, offset, data }
      offset += data.length
      return request
    })
    const begun = performance.now()
    await link.ask({ type: 'Tfsync', fid: 1, datasync: 0 })
    return mebibytes / (seconds + (performance.now() - begun) / 1000)
  })
  await measure('read', 1, async (link) => {
    const count = link.msize - header_room
    let offset = 0
    let received = 0
    const seconds = await link.run(streams, (slot, answer) => {
      if (answer?.type === 'Rread') received += answer.data.length
      if (offset >= bytes) return undefined
      const request: Request = { type: 'Tread', tag: slot, fid: 1, offset, count: Math.min(count, bytes - offset) }
      offset += count
      return request
    })
    if (received !== bytes) throw new Error(`${received} bytes were read of ${bytes}`)
    await link.ask({ type: 'Tclunk', fid: 1 })
    return mebibytes / seconds
  })
}

const files = 1_000
const outstanding = 64

/** Operations a second; entries a second of a directory. */
async function small({ operations, entries, rounds }: NinepSizes, measure: Measure): Promise<void> {
  // Fids: 0 root, 1 the directory, from 100 on the files, from 10,000 on those of slots.
  await measure('make', 1, async (link) => {
    await link.ask({ type: 'Tmkdir', dirFid: 0, name: 'many', mode: 0o755, gid: 0 })
    await link.ask({ type: 'Twalk', fid: 0, newFid: 1, names: ['many'] })
    let made = 0
    const seconds = await link.run(outstanding, (slot) =>
      made === entries
        ? undefined
        : { type: 'Tmknod', tag: slot, dirFid: 1, name: `entry-${made++}`, mode: 0o100644, major: 0, minor: 0, gid: 0 },
    )
    return entries / seconds
  })
  for (const slots of [1, outstanding]) {
    const count = slots === 1 ? operations / 8 : operations
    await measure(`walk ${slots}`, rounds, async (link) => {
      let walked = 0
      const isWalked = new Array<boolean>(slots).fill(false)
      const seconds = await link.run(slots, (slot) => {
        isWalked[slot] = !isWalked[slot]
        if (!isWalked[slot]) return { type: 'Tclunk', tag: slot, fid: 10_000 + slot }
        if (walked >= count) return undefined
        return { type: 'Twalk', tag: slot, fid: 0, newFid: 10_000 + slot, names: ['many', `entry-${walked++ % files}`] }
      })
      return count / seconds
    })
  }
  await measure('open', 1, async (link) => {
    let opened = 0
    return link.run(1, () =>
      opened === files ? undefined : { type: 'Twalk', tag: 0, fid: 1, newFid: 100 + opened, names: [`entry-${opened++}`] },
    )
  })
  for (const slots of [1, outstanding]) {
    const count = slots === 1 ? operations / 8 : operations
    await measure(`getattr ${slots}`, rounds, async (link) => {
      let asked = 0
      const seconds = await link.run(slots, (slot) =>
        asked === count ? undefined : { type: 'Tgetattr', tag: slot, fid: 100 + (asked++ % files), mask: 0x7ff },
      )
      return count / seconds
    })
  }
  await measure('readdir', rounds, async (link) => {
    await link.ask({ type: 'Twalk', fid: 1, newFid: 2, names: [] })
    await link.ask({ type: 'Tlopen', fid: 2, flags: flag.directory })
    let seen = 0
    let offset = 0n
    let isBegun = false
    const seconds = await link.run(1, (_, answer) => {
      if (answer?.type === 'Rreaddir') {
        const dirents = decodeDirents(Buffer.from(answer.data.buffer, answer.data.byteOffset, answer.data.byteLength))
        seen += dirents.length
        offset = dirents.at(-1)?.offset ?? offset
        if (dirents.length === 0) return undefined
      } else if (isBegun) throw new Error('that is no directory')
      isBegun = true
      return { type: 'Treaddir', tag: 0, fid: 2, offset, count: link.msize - header_room }
    })
    await link.ask({ type: 'Tclunk', fid: 2 })
    // `.` and `..` too.
    if (seen !== entries + 2) throw new Error(`${seen} entries were listed of ${entries}`)
    return entries / seconds
  })
}

function median(values: readonly number[]): number {
  return [...values].sort((a, b) => a - b)[values.length >> 1]!
}
