/** Mount table and walks, pure: where paths lead, what changes leave alone, loops and limits. */
import { describe, expect, it } from 'vitest'
import { emptyServer } from '../../namespace/empty-server.ts'
import type { FileServer } from '../../namespace/file-server.ts'
import { limits } from '../../namespace/limits.ts'
import { MountTable } from '../../namespace/mount-table.ts'
import type { Channel, Member, MountOrder } from '../../namespace/mount-table.ts'
import { parsePath } from '../../namespace/path.ts'
import type { Path } from '../../namespace/path.ts'
import { findLoop, walk, walkToCovered } from '../../namespace/walk.ts'

const p = (text: string): Path => parsePath(text)
/** Servers of which only the identity counts here. */
const server = (): FileServer => ({ ...emptyServer() })
let number = 0
function member(channel: Channel, at: Path, order: MountOrder = 'replace', create = false): Member {
  return { ...channel, create, original: false, entry: { verb: 'mount', source: 's', at, order, create, number: ++number } }
}
function mounted(table: MountTable, at: string, to: FileServer, path = '/', order: MountOrder = 'replace'): MountTable {
  const key = walkToCovered(table, p(at))
  return table.mount(key, [member({ server: to, path: p(path) }, p(at), order)], order)
}

describe('walk', () => {
  it('leads to the root server where nothing is mounted', () => {
    const root = server()
    for (const path of ['/', '/a', '/a/b/c']) expect(walk(new MountTable(root), p(path))).toMatchObject({ path, reject: undefined })
  })

  it('crosses mounts, one below the other, and takes a path apart at component borders only', () => {
    const [root, a, b] = [server(), server(), server()]
    const table = mounted(mounted(new MountTable(root), '/mnt/a', a, '/top'), '/mnt/a/x', b)
    expect(walk(table, p('/mnt/a/file'))).toMatchObject({ path: '/top/file', outer: '/mnt/a', inner: '/top' })
    expect(walk(table, p('/mnt/a/file')).server).toBe(a)
    expect(walk(table, p('/mnt/a/x/y/z'))).toMatchObject({ path: '/y/z' })
    expect(walk(table, p('/mnt/a/x/y/z')).server).toBe(b)
    expect(walk(table, p('/mnt/ab')).server).toBe(root)
    expect(walk(table, p('/mnt/a/xy')).server).toBe(a)
    expect(walk(table, p('/mnt')).node).toBeDefined()
    expect(walk(table, p('/mnt/a'))).toMatchObject({ path: '/top', name: 'a', isMountPoint: true })
  })

  it('shows a mount below a bound tree through every name of the tree', () => {
    const [root, x] = [server(), server()]
    const table = mounted(mounted(new MountTable(root), '/alias', root, '/tree'), '/tree/sub', x)
    for (const path of ['/tree/sub/f', '/alias/sub/f']) expect(walk(table, p(path)).server).toBe(x)
  })

  it('does not look for a mount at a member itself: binds are static', () => {
    const [root, x] = [server(), server()]
    const table = mounted(mounted(new MountTable(root), '/alias', root, '/tree'), '/tree', x)
    expect(walk(table, p('/alias/f'))).toMatchObject({ path: '/tree/f' })
    expect(walk(table, p('/alias/f')).server).toBe(root)
    expect(walk(table, p('/tree/f')).server).toBe(x)
  })

  it('stops at a union and says where the rest of the path begins', () => {
    const [root, x] = [server(), server()]
    const table = mounted(new MountTable(root), '/u', x, '/', 'after')
    const walked = walk(table, p('/u/a/b'))
    expect(walked.union?.members.map((m) => [m.server === root, m.path, m.original])).toEqual([
      [true, '/u', true],
      [false, '/', false],
    ])
    expect(walked.at).toBe(2)
  })

  it('changes nothing of the table a change was made from', () => {
    const [root, x, y] = [server(), server(), server()]
    const before = mounted(new MountTable(root), '/a/b', x)
    const after = mounted(before, '/a/b', y)
    expect(walk(before, p('/a/b')).server).toBe(x)
    expect(walk(after, p('/a/b')).server).toBe(y)
    const bare = after.unmount({ server: root, path: p('/a/b') }, () => true)!
    expect(walk(bare, p('/a/b')).server).toBe(root)
    expect(bare.nodeAt(root, p('/'))).toBeUndefined()
    expect([before.size, after.size, bare.size]).toEqual([1, 1, 0])
  })

  it('gives back the directory that a union covered when its members are gone', () => {
    const [root, x] = [server(), server()]
    const table = mounted(new MountTable(root), '/u', x, '/', 'before')
    const bare = table.unmount({ server: root, path: p('/u') }, (m) => m.server === x)!
    expect(walk(bare, p('/u'))).toMatchObject({ union: undefined, path: '/u' })
    expect(bare.unmount({ server: root, path: p('/u') }, () => true)).toBeUndefined()
  })

  it('tells a tree without end, of any length, and no tree that only meets itself again', () => {
    const [root, a, b] = [server(), server(), server()]
    const straight = mounted(new MountTable(root), '/x', root, '/')
    expect(() => findLoop(straight, [{ server: root, path: p('/') }], p('/'))).toThrow(expect.objectContaining({ kind: 'loop' }))
    const around = mounted(mounted(mounted(new MountTable(root), '/x', a), '/x/y', b), '/x/y/z', a, '/')
    expect(() => findLoop(around, [{ server: root, path: p('/') }], p('/'))).toThrow(expect.objectContaining({ kind: 'loop' }))
    const twice = mounted(mounted(mounted(new MountTable(root), '/x', a), '/y', a), '/x/in', b)
    expect(() => findLoop(twice, [{ server: root, path: p('/') }], p('/'))).not.toThrow()
    // Any finite path of the endless tree still leads somewhere.
    expect(walk(straight, p(`/${'x/'.repeat(300)}f`))).toMatchObject({ path: '/f' })
  })

  it('bounds mounts, members and what it remembers', () => {
    const root = server()
    let table = new MountTable(root)
    for (let i = 0; i < limits.mounts_max; i++) table = mounted(table, `/m${i}`, server())
    expect(() => mounted(table, '/more', server())).toThrow(expect.objectContaining({ kind: 'too_large' }))
    expect(mounted(table, '/m1', server()).size).toBe(limits.mounts_max)
    let union = new MountTable(root)
    for (let i = 1; i < limits.union_members_max; i++) union = mounted(union, '/u', server(), '/', 'after')
    expect(() => mounted(union, '/u', server(), '/', 'before')).toThrow(expect.objectContaining({ kind: 'too_large' }))
    for (let i = 0; i < 3 * limits.walk_cache_entries_max; i++) walk(table, p(`/f${i}`))
    expect(table.walks.size).toBeLessThanOrEqual(limits.walk_cache_entries_max)
  })

  it('tells its lines in the order in which they were made', () => {
    const root = server()
    const table = mounted(mounted(mounted(new MountTable(root), '/b', server()), '/a', server()), '/b', server(), '/', 'before')
    expect(table.entries().map((entry) => [entry.at, entry.order])).toEqual([
      ['/b', 'replace'],
      ['/a', 'replace'],
      ['/b', 'before'],
    ])
  })
})
