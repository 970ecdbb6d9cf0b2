/** Operations of a mount where the kernel cannot be made to ask: races with others, names and times of no use. */
import { describe, expect, it } from 'vitest'
import { errnoOf } from '../../cli/fuse/errno.ts'
import { FuseOperations } from '../../cli/fuse/operations.ts'
import { Owners } from '../../cli/fuse/owners.ts'
import { contextFor } from '../../namespace/context.ts'
import { errorTable } from '../../namespace/errors.ts'
import { MemoryServer } from '../../namespace/memory/memory-server.ts'
import { parsePath } from '../../namespace/path.ts'
import type { Path } from '../../namespace/path.ts'

const ann = { name: 'ann', groups: [] }
const ESTALE = -116
const { EPERM, EILSEQ } = { EPERM: -1, EILSEQ: -84 }
const hidden = '/d/.fuse_hidden0000000200000001'

function tree() {
  const server = new MemoryServer({ owner: ann.name })
  const failures: Path[] = []
  const context = () => contextFor(ann)
  const owners = new Owners(ann.name, 1000, 1001)
  const operations = new FuseOperations({ server, root: parsePath('/'), owners, context, onFailure: (path) => failures.push(path) })
  const write = (path: string, text: string) => server.write(context(), parsePath(path), Buffer.from(text), { parents: true })
  const read = async (path: string) => Buffer.from((await server.read(context(), parsePath(path))).bytes).toString()
  return { server, operations, context, write, read, failures }
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
})
