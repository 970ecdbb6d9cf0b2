/** Operations of a mount where the kernel cannot be made to ask: races with others, names and times of no use. */
import { describe, expect, it } from 'vitest'
import { errnoOf } from '../../cli/fuse/errno.ts'
import { FuseOperations } from '../../cli/fuse/operations.ts'
import { Owners } from '../../namespace/owners.ts'
import { contextFor } from '../../namespace/context.ts'
import { errorTable, NineError } from '../../namespace/errors.ts'
import type { FileServer } from '../../namespace/file-server.ts'
import { MemoryServer } from '../../namespace/memory/memory-server.ts'
import { connectNinep } from '../../namespace/ninep/connect.ts'
import { parsePath } from '../../namespace/path.ts'
import type { Path } from '../../namespace/path.ts'
import { startEdge } from '../ninep/edge.ts'

const ann = { name: 'ann', groups: [] }
const ESTALE = -116
const { EPERM, EIO, EILSEQ } = { EPERM: -1, EIO: -5, EILSEQ: -84 }
const hidden = '/d/.fuse_hidden0000000200000001'

function tree(over: (server: FileServer) => FileServer = (server) => server, timeoutMs?: number) {
  const memory = new MemoryServer({ owner: ann.name })
  const server = over(memory)
  const failures: Path[] = []
  const context = () => contextFor(ann, timeoutMs)
  const owners = new Owners(ann.name, 1000, 1001)
  const operations = new FuseOperations({ server, root: parsePath('/'), owners, context, onFailure: (path) => failures.push(path) })
  const write = (path: string, text: string) => memory.write(context(), parsePath(path), Buffer.from(text), { parents: true })
  const read = async (path: string) => Buffer.from((await server.read(context(), parsePath(path))).bytes).toString()
  return { server, operations, context, write, read, failures }
}

/** A server of which single operations are replaced. */
function replacing(server: FileServer, operations: Partial<FileServer>): FileServer {
  return new Proxy(server, {
    get: (target, name) => {
      const own: unknown = Reflect.get(operations, name)
      if (own !== undefined) return own
      const value: unknown = Reflect.get(target, name)
      return typeof value === 'function' ? (value.bind(target) as unknown) : value
    },
  })
}

/** A server whose handles all go when `lose` is called, as with a connection. */
function losing() {
  let lost = 0
  let last = 0
  const over = (server: FileServer): FileServer => {
    const check = (handle: number): void => {
      if (handle <= lost) throw new NineError({ kind: 'unavailable', op: 'test', message: 'the connection is lost' })
    }
    return replacing(server, {
      open: async (...args) => {
        const opened = await server.open(...args)
        last = Math.max(last, opened.handle)
        return opened
      },
      readHandle: async (...args) => (check(args[1]), server.readHandle(...args)),
      writeHandle: async (...args) => (check(args[1]), server.writeHandle(...args)),
      syncHandle: async (...args) => (check(args[1]), server.syncHandle(...args)),
      closeHandle: async (...args) => (check(args[1]), server.closeHandle(...args)),
    })
  }
  return { over, lose: () => void (lost = last) }
}

async function failure(work: Promise<unknown>): Promise<number> {
  try {
    await work
  } catch (error) {
    return errnoOf(error)
  }
  return 0
}

describe('operations of a mount', () => {
  it('have the kernel look again when somebody else made what it wants to make', async () => {
    const { operations, write, read } = tree()
    await write('/d/x', 'theirs')
    expect(await failure(operations.mknod('/d/x', 0o100644))).toBe(ESTALE)
    expect(await read('/d/x')).toBe('theirs')
    expect(await failure(operations.mknod('/d/y', 0o010644))).toBe(EPERM)
  })

  it('refuse names that are no names, and ways too long', async () => {
    const { operations } = tree()
    expect(await failure(operations.mknod('/bad\ufffd', 0o100644))).toBe(EILSEQ)
    expect(await failure(operations.mkdir(`/${'x'.repeat(256)}`, 0o755))).toBe(-errorTable.name_too_long.errno)
    expect(await failure(operations.getattr(`/${'y'.repeat(200)}`.repeat(6)))).toBe(-errorTable.name_too_long.errno)
    expect(await failure(operations.read(7, Buffer.alloc(1), 1, 0))).toBe(-9)
  })

  it('remove the open file that was removed, and not another that took its name', async () => {
    const { operations, server, context, write, read } = tree()
    await write('/d/x', 'old')
    const number = await operations.open('/d/x', 2)
    await operations.rename('/d/x', hidden)
    // Another program replaces it before the removal is done.
    await write('/d/new', 'new')
    await server.rename(context(), parsePath('/d/new'), parsePath('/d/x'), { replace: true })
    await operations.fsyncdir('/d')
    expect(await read('/d/x')).toBe('new')
    const buffer = Buffer.alloc(8)
    expect(buffer.toString('utf8', 0, await operations.read(number, buffer, 8, 0))).toBe('old')
    expect(await operations.getattr(hidden)).toMatchObject({ nlink: 0, size: 3 })
    await operations.release(number)
    expect(await failure(operations.unlink(hidden))).toBe(0)
  })

  it('remove it even while others write to it, and at the end of the mount', async () => {
    const { operations, write, read, failures } = tree()
    await write('/d/x', 'old')
    const number = await operations.open('/d/x', 0)
    await operations.rename('/d/x', hidden)
    await write('/d/x', 'changed')
    expect(await operations.close()).toEqual([])
    await expect(read('/d/x')).rejects.toMatchObject({ kind: 'not_found' })
    expect(failures).toEqual([])
    expect(await failure(operations.release(number))).toBe(-9)
  })

  it('do not let go of what may not be removed', async () => {
    const { operations, server, context, write } = tree()
    await write('/d/x', 'kept')
    const bob = { name: 'bob', groups: [] }
    await server.setRights(context(), parsePath('/d'), [{ who: 'bob', rights: ['read', 'write', 'list'] }])
    const owners = new Owners('bob', 1, 1)
    const bobs = new FuseOperations({ server, root: parsePath('/d'), owners, context: () => contextFor(bob), onFailure: () => undefined })
    await bobs.open('/x', 0)
    expect(await failure(bobs.rename('/x', '/.fuse_hidden0000000200000001'))).toBe(-errorTable.denied.errno)
    expect(await failure(bobs.getattr('/x'))).toBe(0)
    await operations.close()
  })

  it('publish what was written before they set its time', async () => {
    const { operations, server, context } = tree()
    await operations.mkdir('/d', 0o700)
    await operations.mknod('/d/x', 0o100600)
    const number = await operations.open('/d/x', 1)
    await operations.write(number, Buffer.from('text'), 0)
    await operations.utimens('/d/x', 1_000_000)
    await operations.flush(number)
    await operations.release(number)
    const { stat } = await server.stat(context(), parsePath('/d/x'))
    expect(stat).toMatchObject({ modifiedAt: 1_000_000_000, mode: 0o600, size: 4 })
    expect(await operations.getattr('/d/x')).toMatchObject({ uid: 1000, mtimeMs: 1_000_000 })
  })

  it('change nothing that is so already', async () => {
    const { operations, server, context, write } = tree()
    await write('/d/x', 'x')
    const before = (await server.stat(context(), parsePath('/d/x'))).stat
    await operations.chmod('/d/x', 0o100000 | before.mode)
    await operations.chown('/d/x', 1000, 0xffff_ffff)
    expect((await server.stat(context(), parsePath('/d/x'))).stat.version).toBe(before.version)
    await operations.chown('/d/x', 7, 1001)
    expect((await server.stat(context(), parsePath('/d/x'))).stat).toMatchObject({ owner: '7' })
    expect(await operations.getattr('/d/x')).toMatchObject({ uid: 7, gid: 1001 })
  })

  it('tell whoever wrote of writes that were lost with a connection, and nobody else instead', async () => {
    const { over, lose } = losing()
    const { operations, write } = tree(over)
    await write('/d/x', 'old')
    const number = await operations.open('/d/x', 2)
    await operations.write(number, Buffer.from('one'), 0)
    lose()
    await operations.write(number, Buffer.from('two'), 3)
    // Another program sets its time.
    expect(await failure(operations.utimens('/d/x', 1_000_000))).toBe(0)
    expect(await failure(operations.flush(number))).toBe(EIO)
    expect(await failure(operations.flush(number))).toBe(0)
    await operations.release(number)
  })

  it('tell of lost writes at the end of the mount, and when a file is let go without a close', async () => {
    const { over, lose } = losing()
    const { operations, write } = tree(over)
    await write('/d/x', 'old')
    const [first, second] = [await operations.open('/d/x', 2), await operations.open('/d/x', 2)]
    for (const number of [first, second]) await operations.write(number, Buffer.from('one'), 0)
    lose()
    // Opened anew.
    for (const number of [first, second]) await operations.read(number, Buffer.alloc(3), 3, 0)
    expect(await failure(operations.release(first))).toBe(EIO)
    expect(await operations.close()).toEqual(['/d/x'])
  })

  it('do not use another file, or none, in place of one that is gone when its handle is opened anew', async () => {
    const { over, lose } = losing()
    const { operations, server, context, write } = tree(over)
    await write('/d/x', 'old')
    const number = await operations.open('/d/x', 0)
    await server.remove(context(), parsePath('/d/x'))
    lose()
    expect(await failure(operations.read(number, Buffer.alloc(3), 3, 0))).toBe(ESTALE)
    await write('/d/x', 'new')
    expect(await failure(operations.read(number, Buffer.alloc(3), 3, 0))).toBe(ESTALE)
  })

  it('give up a removal that always comes between two changes', async () => {
    const conflict = new NineError({ kind: 'conflict', op: 'test', message: 'somebody wrote' })
    const { operations, write, failures } = tree((server) => replacing(server, { remove: () => Promise.reject(conflict) }), 100)
    await write('/d/x', 'old')
    await operations.open('/d/x', 0)
    await operations.rename('/d/x', hidden)
    await operations.fsyncdir('/d')
    expect(failures).toEqual(['/d/x'])
  })

  it('remove open files of a tree that knows no rights and no versions: a 9P server', async () => {
    const edge = await startEdge()
    const mount = await connectNinep({ address: edge.address, aname: '/data' })
    const { operations, failures } = tree(() => mount.server)
    try {
      await operations.mkdir('/d', 0o755)
      await operations.mknod('/d/x', 0o100644)
      const number = await operations.open('/d/x', 2)
      await operations.write(number, Buffer.from('text'), 0)
      expect(await failure(operations.rename('/d/x', hidden))).toBe(0)
      await operations.fsyncdir('/d')
      expect(failures).toEqual([])
      await expect(edge.text('/d/x')).rejects.toMatchObject({ kind: 'not_found' })
      const buffer = Buffer.alloc(4)
      expect(await operations.read(number, buffer, 4, 0)).toBe(4)
      expect(buffer.toString()).toBe('text')
      await operations.release(number)
    } finally {
      await mount.close()
      await edge.close()
    }
  })

  it('replace an open file in one change, whoever looks meanwhile', async () => {
    let removals = 0
    const { operations, write, read } = tree((server) =>
      replacing(server, {
        remove: (...args) => {
          removals++
          return server.remove(...args)
        },
      }),
    )
    await write('/d/x', 'old')
    await write('/d/new', 'new')
    const number = await operations.open('/d/x', 0)
    await operations.rename('/d/x', hidden)
    const looks = [operations.getattr('/d/x'), operations.readdir('/d'), operations.open('/d/x', 0)]
    await operations.rename('/d/new', '/d/x')
    await Promise.all(looks)
    expect(await read('/d/x')).toBe('new')
    expect(removals).toBe(0)
    await operations.release(number)
  })
})
