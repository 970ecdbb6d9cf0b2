/** Our 9P client at servers that fail, lie, or say nothing. */
import { afterEach, describe, expect, it } from 'vitest'
import { contextFor } from '../../namespace/context.ts'
import type { Context } from '../../namespace/context.ts'
import { NineError } from '../../namespace/errors.ts'
import type { ErrorKind } from '../../namespace/errors.ts'
import type { FileServer } from '../../namespace/file-server.ts'
import { limits } from '../../namespace/limits.ts'
import { connectNinep } from '../../namespace/ninep/connect.ts'
import type { ConnectNinepOptions, NinepMount } from '../../namespace/ninep/connect.ts'
import { parsePath } from '../../namespace/path.ts'
import { pattern } from '../conformance/suite/tools.ts'
import { DirentWriter } from '../../proto/ninep/records.ts'
import { directoryQid, fileQid, linked, plan9Stat, silence, sized, startScripted } from './scripted-server.ts'
import type { Answer, Scripted } from './scripted-server.ts'

const owner = { name: 'owner', groups: [] }
const context = (ms = 20_000): Context => contextFor(owner, ms)
const file = parsePath('/f')
const bytes = Buffer.from('value')

let server: Scripted
let mount: NinepMount | undefined

afterEach(async () => {
  await mount?.close()
  mount = undefined
  await server.close()
})

async function mounted(answer: Answer, options: Partial<ConnectNinepOptions> = {}): Promise<FileServer> {
  server = await startScripted(answer)
  mount = await connectNinep({ address: server.address, ...options })
  return mount.server
}

async function failure(promise: Promise<unknown>, kind: ErrorKind): Promise<NineError> {
  const error: unknown = await promise.then(
    (value) => expect.fail(`expected ${kind}, got ${JSON.stringify(value)}`),
    (reason: unknown) => reason,
  )
  if (!(error instanceof NineError)) throw error
  expect(`${error.kind}: ${error.message}`).toContain(`${kind}: `)
  return error
}

describe('answers that are none', () => {
  const garbage = Buffer.from('HTTP/1.1 400 Bad Request\r\n\r\n')
  const cases: Record<string, (tag: number) => { raw: Buffer; end?: boolean }> = {
    garbage: () => ({ raw: garbage }),
    'a size past msize': () => ({ raw: Buffer.from([0xff, 0xff, 0xff, 0x7f, 25, 0, 0]) }),
    'a size below a header': () => ({ raw: Buffer.from([3, 0, 0, 0, 25, 0, 0]) }),
    'the tag of nobody': () => ({ raw: Buffer.from([7, 0, 0, 0, 121, 99, 0]) }),
    'a flush of nothing': (tag) => ({ raw: Buffer.from([7, 0, 0, 0, 109, (tag + 256) & 0xff, (tag + 256) >> 8]) }),
    'an answer of another type': (tag) => ({ raw: Buffer.from([7, 0, 0, 0, 121, tag, 0]) }),
    'an unknown type': (tag) => ({ raw: Buffer.from([7, 0, 0, 0, 255, tag, 0]) }),
    'a request': (tag) => ({ raw: Buffer.from([11, 0, 0, 0, 120, tag, 0, 0, 0, 0, 0]) }),
    'a message cut short, and the end': () => ({ raw: Buffer.from([100, 0, 0, 0, 25, 0]), end: true }),
    'the end': () => ({ raw: Buffer.alloc(0), end: true }),
  }
  for (const [name, make] of Object.entries(cases)) {
    it(`${name}: what is under way is unavailable, and the next operation connects again`, async () => {
      let isBad = true
      const tree = await mounted(({ type, tag }) => (type === 'Tgetattr' && isBad ? make(tag) : undefined))
      await failure(tree.stat(context(), file), 'unavailable')
      isBad = false
      expect((await tree.stat(context(), file)).stat.kind).toBe('file')
      expect(server.connections).toBe(2)
    })
  }

  it('to Tversion and Tattach: no connection, and the reason', async () => {
    for (const type of ['Tversion', 'Tattach']) {
      server = await startScripted((request) => (request.type === type ? { raw: garbage } : undefined))
      await failure(connectNinep({ address: server.address }), 'unavailable')
      await server.close()
    }
    server = await startScripted((request) => (request.type === 'Tattach' ? { type: 'Rlerror', errno: 1 } : undefined))
    await failure(connectNinep({ address: server.address }), 'unauthenticated')
  })
})

describe('versions', () => {
  it('9P2000 is taken where 9P2000.L is not known, or answered by it, or by 9P2000.u', async () => {
    for (const first of ['unknown', '9P2000', '9P2000.u']) {
      server = await startScripted((request) => {
        if (request.type !== 'Tversion') return undefined
        return { type: 'Rversion', msize: 8192, version: request.version === '9P2000.L' ? first : request.version }
      }, '9P2000')
      mount = await connectNinep({ address: server.address })
      expect(mount.dialect).toBe('9P2000')
      await mount.close()
      await server.close()
    }
  })

  it('neither, or a size of messages that was not offered, is refused', async () => {
    server = await startScripted(({ type }) => (type === 'Tversion' ? { type: 'Rversion', msize: 8192, version: 'unknown' } : undefined))
    await failure(connectNinep({ address: server.address }), 'unsupported')
    await failure(connectNinep({ address: server.address, dialect: '9P2000' }), 'unsupported')
    await server.close()
    for (const msize of [256, 2 ** 30]) {
      server = await startScripted(({ type }) => (type === 'Tversion' ? { type: 'Rversion', msize, version: '9P2000.L' } : undefined))
      await failure(connectNinep({ address: server.address }), 'unavailable')
      await server.close()
    }
  })
})

describe('no answer', () => {
  it('to Tversion: the attempt ends in time, and the next one is a connection of its own', async () => {
    let isHung = true
    server = await startScripted(({ type }) => (type === 'Tversion' && isHung ? silence : undefined))
    // Its time is over as soon as somebody looks.
    const clock = { now: () => 0, monotonic: () => performance.now() + 2 * limits.handshake_ms }
    await failure(connectNinep({ address: server.address, clock }), 'unavailable')
    isHung = false
    mount = await connectNinep({ address: server.address, clock: { now: () => 0, monotonic: () => performance.now() } })
    expect(server.connections).toBe(2)
  })

  it('ends with the deadline; the tag is not used again before the flush is answered', async () => {
    const tree = await mounted(({ type }) => (type === 'Tgetattr' || type === 'Tflush' ? silence : undefined))
    await failure(tree.stat(context(60), file), 'deadline')
    const asked = await server.next('Tgetattr')
    const flush = await server.next('Tflush')
    expect(flush.oldTag).toBe(asked.tag)
    await failure(tree.stat(context(60), file), 'deadline')
    expect((await server.next('Tgetattr')).tag).not.toBe(asked.tag)
  })

  it('ends with the signal, and a fid that a late walk made is given back', async () => {
    const controller = new AbortController()
    let late = (): void => undefined
    const tree = await mounted((request, peer) => {
      if (request.type === 'Twalk') {
        late = () => {
          peer.send(request.tag, { type: 'Rwalk', qids: [fileQid] })
        }
        return silence
      }
      if (request.type !== 'Tflush') return undefined
      // The walk was done before the flush came.
      late()
      return { type: 'Rflush' }
    })
    const asked = failure(tree.stat({ ...context(), signal: controller.signal }, file), 'deadline')
    const { newFid } = await server.next('Twalk')
    controller.abort()
    await asked
    expect((await server.next('Tclunk')).fid).toBe(newFid)
  })

  it('to a change: its outcome is not known, and it is not sent again', async () => {
    const tree = await mounted(({ type }) => (type === 'Twrite' ? silence : undefined))
    const error = await failure(tree.write(context(60), file, bytes), 'deadline')
    expect(error.outcome).toBe('unknown')
    await server.next('Tflush')
    expect((await failure(tree.stat(context(60), parsePath('/f/g')), 'not_directory')).outcome).toBe('none')
    expect(server.requests.filter(({ type }) => type === 'Twrite').length).toBe(1)
  })

  it('for long: the server is asked whether it lives, then given up', async () => {
    let now = 0
    const clock = { now: () => 0, monotonic: () => now }
    const tree = await mounted(({ type }) => (type === 'Tgetattr' || type === 'Tflush' ? silence : undefined), { clock })
    const asked = failure(tree.stat(contextFor(owner, Infinity), file), 'unavailable')
    await server.next('Tgetattr')
    now = limits.session_ping_ms + 1
    await server.next('Tflush')
    now = limits.session_silent_ms_max + 1
    await asked
  })

  it('but to a question whether it lives: a slow request goes on', async () => {
    // A second goes by whenever somebody looks.
    let now = 0
    const clock = { now: () => 0, monotonic: () => (now += 1000) }
    let slow = (): void => undefined
    const tree = await mounted(
      (request, peer) => {
        if (request.type !== 'Tgetattr') return undefined
        slow = () => peer.send(request.tag, sized(7))
        return silence
      },
      { clock },
    )
    const asked = tree.stat(contextFor(owner, Infinity), file)
    for (let i = 1; i <= 5; i++) await server.next('Tflush')
    slow()
    expect((await asked).stat.size).toBe(7)
  })

  it('to very many: what waits is bounded', async () => {
    const tree = await mounted(({ type }) => (type === 'Twalk' ? silence : undefined))
    const controller = new AbortController()
    const all = Array.from({ length: limits.ninep_client_waiting_max + 1000 }, () =>
      tree.stat({ ...context(), signal: controller.signal }, file).catch((error: unknown) => (error as NineError).kind),
    )
    const over = await Promise.race(all)
    expect(over).toBe('overloaded')
    controller.abort()
    expect(new Set(await Promise.all(all))).toEqual(new Set(['overloaded', 'deadline']))
  })
})

describe('a connection that is lost', () => {
  it('leaves the outcome of a change unknown, and never does it twice', async () => {
    let isBad = true
    const tree = await mounted(({ type }) => (type === 'Twrite' && isBad ? { raw: Buffer.alloc(0), end: true } : undefined))
    const error = await failure(tree.write(context(), file, bytes, { at: 'append' }), 'unavailable')
    expect(error.outcome).toBe('unknown')
    isBad = false
    await tree.stat(context(), file)
    expect(server.requests.filter(({ type }) => type === 'Twrite').length).toBe(1)
  })

  it('ends the handles that were open over it', async () => {
    const tree = await mounted(({ type }) => (type === 'Tread' ? { raw: Buffer.alloc(0), end: true } : undefined))
    const { handle } = await tree.open(context(), file, { read: true })
    await failure(tree.readHandle(context(), handle, 0, 10), 'unavailable')
    await tree.stat(context(), file)
    const error = await failure(tree.readHandle(context(), handle, 0, 10), 'unavailable')
    expect(error.retryable).toBe(false)
    await failure(tree.closeHandle(context(), handle), 'unavailable')
    await failure(tree.closeHandle(context(), handle), 'invalid')
  })

  it('is not made anew for every operation while the server is away', async () => {
    let now = 0
    let isAway = false
    const clock = { now: () => 0, monotonic: () => now }
    const end = { raw: Buffer.alloc(0), end: true }
    const tree = await mounted(({ type }) => (isAway && (type === 'Tgetattr' || type === 'Tversion') ? end : undefined), { clock })
    isAway = true
    await failure(tree.stat(context(), file), 'unavailable')
    for (let i = 0; i < 20; i++) await failure(tree.stat(context(), file), 'unavailable')
    expect(server.connections).toBe(2)
    // Its time doubles: after the first pause comes one more attempt, and no other before twice as long.
    now += limits.reconnect_backoff_ms_min
    for (let i = 0; i < 5; i++) await failure(tree.stat(context(), file), 'unavailable')
    expect(server.connections).toBe(3)
    now += limits.reconnect_backoff_ms_min
    await failure(tree.stat(context(), file), 'unavailable')
    expect(server.connections).toBe(3)
    isAway = false
    now += limits.reconnect_backoff_ms_min
    await tree.stat(context(), file)
    expect(server.connections).toBe(4)
  })
})

describe('answers that lie', () => {
  it('more bytes than were asked for, or taken, are refused; fewer are asked for again', async () => {
    const value = Buffer.from(pattern(20_000))
    let give = 1
    const tree = await mounted((request) => {
      if (request.type === 'Tgetattr') return sized(value.length)
      if (request.type === 'Tread') {
        const count = give > 1 ? request.count + 1 : Math.min(request.count, 1000)
        return { type: 'Rread', data: value.subarray(request.offset, request.offset + count) }
      }
      if (request.type === 'Twrite')
        return { type: 'Rwrite', count: give > 1 ? request.data.length + 1 : Math.min(request.data.length, 700) }
      return undefined
    })
    expect(Buffer.compare((await tree.read(context(), file)).bytes, value)).toBe(0)
    await tree.write(context(), file, value)
    const written = Buffer.alloc(value.length)
    for (const request of server.requests) if (request.type === 'Twrite') request.data.copy(written, request.offset, 0, 700)
    expect(Buffer.compare(written, value)).toBe(0)
    give = 2
    await failure(tree.read(context(), file, { length: 10 }), 'internal')
    expect((await failure(tree.write(context(), file, bytes), 'internal')).outcome).toBe('unknown')
    await server.whenFids(1)
  })

  it('a server that takes nothing has no room', async () => {
    const tree = await mounted(({ type }) => (type === 'Twrite' ? { type: 'Rwrite', count: 0 } : undefined))
    await failure(tree.write(context(), file, bytes), 'no_space')
  })

  it('a walk further than was asked is refused, and one through a file or a link goes nowhere', async () => {
    let qids = [directoryQid, fileQid, fileQid]
    const tree = await mounted(({ type }) => (type === 'Twalk' ? { type: 'Rwalk', qids } : undefined))
    await failure(tree.stat(context(), parsePath('/d/f')), 'internal')
    qids = [{ ...fileQid, type: 0x02 }, fileQid]
    await failure(tree.stat(context(), parsePath('/link/f')), 'not_directory')
    qids = [directoryQid]
    await failure(tree.stat(context(), parsePath('/d/f')), 'not_found')
    await server.whenFids(1)
  })

  it('names that no path can hold are left out, once-listed names stand once', async () => {
    const names = ['b', '.', '..', 'a/b', '', 'a', 'x'.repeat(256), 'b', 'c']
    const tree = await mounted((request) => {
      if (request.type !== 'Treaddir' || request.offset > 0n) return undefined
      const writer = new DirentWriter(request.count)
      names.forEach((name, i) => writer.add({ qid: fileQid, offset: BigInt(i + 1), type: 8, name }))
      return { type: 'Rreaddir', data: writer.bytes() }
    })
    expect((await tree.list(context(), parsePath('/d'))).entries.map((entry) => entry.name)).toEqual(['a', 'b', 'c'])
    await server.whenFids(1)
  })

  it('a directory that is no list of entries is told so', async () => {
    let data = Buffer.from('these are no entries')
    const tree = await mounted(({ type }) => (type === 'Treaddir' ? { type: 'Rreaddir', data } : undefined))
    expect((await failure(tree.list(context(), parsePath('/d')), 'internal')).outcome).toBe('none')
    data = Buffer.alloc(3)
    await failure(tree.remove(context(), parsePath('/d'), { recursive: true }), 'internal')
    await server.whenFids(1)
  })

  it('a directory without end, and directories without end, are bounded', async () => {
    const data = (names: readonly string[]): Buffer => {
      const writer = new DirentWriter(limits.ninep_client_msize)
      names.forEach((name, i) => writer.add({ qid: directoryQid, offset: BigInt(i + 1), type: 4, name }))
      return writer.bytes()
    }
    let listed = data(Array.from({ length: 30_000 }, (_, i) => `n${i}`))
    let isEndless = true
    const tree = await mounted((request) => {
      if (request.type === 'Tversion') return { type: 'Rversion', msize: request.msize, version: request.version }
      if (request.type !== 'Treaddir' || (request.offset > 0n && !isEndless)) return undefined
      return { type: 'Rreaddir', data: listed }
    })
    await failure(tree.list(context(60_000), parsePath('/d')), 'too_large')
    listed = data(['d'])
    isEndless = false
    await failure(tree.list(context(60_000), parsePath('/d'), { recursive: true, limit: 10_000 }), 'loop')
    await failure(tree.remove(context(60_000), parsePath('/d'), { recursive: true }), 'loop')
    await server.whenFids(1)
  })
})

describe('texts that are huge', () => {
  const huge = (letter: string): string => letter.repeat(60_000)

  it('do not make a directory without end take all memory', async () => {
    const writer = new DirentWriter(limits.ninep_client_msize)
    for (let i = 1; writer.add({ qid: fileQid, offset: BigInt(i), type: 8, name: `${i}${huge('n')}` }); i++);
    const tree = await mounted((request) => {
      if (request.type === 'Tversion') return { type: 'Rversion', msize: request.msize, version: request.version }
      return request.type === 'Treaddir' ? { type: 'Rreaddir', data: writer.bytes().subarray(0, request.count) } : undefined
    })
    await failure(tree.list(context(10_000), parsePath('/d')), 'too_large')
    await server.whenFids(1)
  })

  it('make pages of fewer entries: targets of links', async () => {
    const names = Array.from({ length: 100 }, (_, i) => `n${i}`)
    const writer = new DirentWriter(limits.ninep_client_msize)
    names.forEach((name, i) => writer.add({ qid: { ...fileQid, type: 2 }, offset: BigInt(i + 1), type: 10, name }))
    const tree = await mounted((request) => {
      if (request.type === 'Tversion') return { type: 'Rversion', msize: request.msize, version: request.version }
      if (request.type === 'Treaddir' && request.offset === 0n) return { type: 'Rreaddir', data: writer.bytes() }
      if (request.type === 'Tgetattr' && request.fid > 0) return linked()
      return request.type === 'Treadlink' ? { type: 'Rreadlink', target: huge('t') } : undefined
    })
    const { entries, next } = await tree.list(context(), parsePath('/d'))
    expect(entries.length).toBeGreaterThan(0)
    expect(entries.reduce((sum, { target = '' }) => sum + target.length, 0)).toBeLessThan(limits.list_page_bytes_max)
    expect(next).toBeDefined()
  })
})

describe('a handle that is closed while it waits in turn', () => {
  it('writes to no other file that has its number by then', async () => {
    let answerStat = (): void => undefined
    let isHeld = false
    server = await startScripted((request, peer) => {
      const { type, tag } = request
      const stat = { type: 'Rstat', stat: plan9Stat } as const
      if (type === 'Topen') return { type: 'Ropen', qid: fileQid, iounit: 0 }
      if (type === 'Twstat') return { type: 'Rwstat' }
      if (type !== 'Tstat') return undefined
      if (!isHeld) return stat
      isHeld = false
      answerStat = () => {
        peer.send(tag, stat)
      }
      return silence
    }, '9P2000')
    mount = await connectNinep({ address: server.address, dialect: '9P2000' })
    const tree = mount.server
    const flags = { write: true, mode: 'shared' } as const
    const first = await tree.open(context(), file, flags)
    const second = await tree.open(context(), file, flags)
    isHeld = true
    const before = server.requests.filter(({ type }) => type === 'Tstat').length
    const appended = tree.writeHandle(context(), first.handle, bytes, 'append')
    const late = failure(tree.writeHandle(context(), second.handle, Buffer.from('late'), 'append'), 'invalid')
    for (let nth = 0; nth <= before; nth++) await server.next('Tstat')
    await tree.closeHandle(context(), second.handle)
    const { fid } = await server.next('Tclunk')
    await server.whenFids(2)
    // Answers come in order: after this one its number is free.
    await tree.stat(context(), file)
    await tree.open(context(), file, flags)
    expect(server.requests.some((request) => request.type === 'Topen' && request.fid === fid)).toBe(true)
    answerStat()
    await appended
    await late
    expect(server.requests.filter(({ type }) => type === 'Twrite').length).toBe(1)
  })
})

describe('an error for everything', () => {
  const operations: Record<string, (tree: FileServer) => Promise<unknown>> = {
    stat: (tree) => tree.stat(context(), file),
    list: (tree) => tree.list(context(), parsePath('/d'), { recursive: true }),
    read: (tree) => tree.read(context(), file),
    write: (tree) => tree.write(context(), file, bytes),
    append: (tree) => tree.write(context(), file, bytes, { at: 'append' }),
    'write below a new directory': (tree) => tree.write(context(), parsePath('/d/e/g'), bytes, { parents: true, ifMatch: 'none' }),
    create: (tree) => tree.create(context(), file),
    mkdir: (tree) => tree.mkdir(context(), file),
    symlink: (tree) => tree.symlink(context(), file, 'x'),
    readlink: (tree) => tree.readlink(context(), file),
    remove: (tree) => tree.remove(context(), parsePath('/d'), { recursive: true }),
    rename: (tree) => tree.rename(context(), file, parsePath('/d/g'), { replace: true }),
    setStat: (tree) => tree.setStat(context(), file, { mode: 0o600 }),
    open: async (tree) => {
      const { handle } = await tree.open(context(), file, { read: true, write: true })
      await tree.writeHandle(context(), handle, bytes, 'append').catch(() => undefined)
      await tree.closeHandle(context(), handle)
    },
    'open shared': async (tree) => {
      const { handle } = await tree.open(context(), file, { read: true, write: true, mode: 'shared' })
      await tree.writeHandle(context(), handle, bytes, 'append').catch(() => undefined)
      await tree.closeHandle(context(), handle)
    },
  }
  for (const [name, operate] of Object.entries(operations)) {
    it(`${name}: every request failing in turn leaves no fid behind`, async () => {
      let left = 0
      const tree = await mounted(({ type }) => {
        const isCounted = type !== 'Tversion' && type !== 'Tattach' && type !== 'Tclunk' && type !== 'Tflush'
        return isCounted && left-- === 0 ? { type: 'Rlerror', errno: 28 } : undefined
      })
      for (let nth = 0; nth < 25; nth++) {
        left = nth
        await operate(tree).catch((error: unknown) => expect(error).toBeInstanceOf(NineError))
        await server.whenFids(1)
      }
      // What was clunked before is answered before: what is left is the root's, and perhaps that of this very stat.
      left = -1
      await tree.stat(context(), file)
      expect(mount!.fids).toBeLessThanOrEqual(2)
    })
  }
})
