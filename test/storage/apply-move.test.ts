import { describe, expect, it } from 'vitest'
import { limits } from '../../namespace/limits.ts'
import type { Command } from '../../storage/model.ts'
import { at, Driven, make, put, remove, rename, write } from './apply-machine.ts'

function tree(): Driven {
  const d = new Driven()
  d.do(write('/d/e/f', 'x', { parents: true }))
  d.do(write('/d/g', 'y'))
  return d
}

describe('remove', () => {
  it('takes a file, an empty directory, or with recursive a whole tree in one event', () => {
    const d = tree()
    const { qid } = d.do(remove('/d/g'))
    expect(qid).toEqual({ type: 0, path: 5, version: 1 })
    expect(d.told).toEqual(['remove /d/g'])
    expect(d.events[0]!.node).toMatchObject({ ino: 5, version: 1 })
    expect(d.kind(remove('/d'))).toBe('not_empty')
    expect(d.do(remove('/d', true)).size).toBe(0)
    expect(d.told).toEqual(['remove /d/'])
    expect(d.last!.revision!.images).toHaveLength(1) // O(1): the entry alone
    expect(d.has('/d/e/f')).toBe(false)
    d.do(make('mkdir', '/d'))
    d.do(remove('/d'))
    expect(d.kind(remove('/d'))).toBe('not_found')
    expect(d.kind(remove('/'))).toBe('invalid')
    expect(d.kind(remove('/', true))).toBe('invalid')
  })
})

describe('rename', () => {
  it('moves a tree whole, and changes neither version nor revision of it', () => {
    const d = tree()
    const before = d.node('/d')
    const result = d.do(rename('/d', '/x'))
    expect(result).toMatchObject({ revision: 3, created: false, qid: { path: before.ino, version: 1 } })
    expect(d.node('/x')).toEqual({ ...before, name: 'x', since: 3 })
    expect(d.text('/x/e/f')).toBe('x')
    expect(d.has('/d')).toBe(false)
    expect(d.told).toEqual(['rename /d -> /x/'])
    expect(d.events[0]!.previous).toEqual(before)
    expect(d.last!.revision!.images).toHaveLength(3)
    d.do(rename('/x/g', '/g'))
    expect(d.told).toEqual(['rename /x/g -> /g'])
  })

  it('is nothing on its own path', () => {
    const d = tree()
    expect(d.do(rename('/d', '/d'))).toMatchObject({ revision: 2 })
    expect(d.last!.revision).toBeUndefined()
    expect(d.do(rename('/d', '/d', { replace: true }))).toMatchObject({ revision: 2 })
    expect(d.has('/d/g')).toBe(true)
  })

  it('keeps a tree a tree', () => {
    const d = tree()
    expect(d.kind(rename('/d', '/d/e/d'))).toBe('invalid')
    expect(d.kind(rename('/d', '/d/new/d', { parents: true }))).toBe('invalid')
    expect(d.kind(rename('/', '/d/r'))).toBe('invalid')
    expect(d.kind(rename('/d', '/'))).toBe('exists')
    expect(d.kind(rename('/d', '/', { replace: true }))).toBe('invalid')
    expect(d.kind({ op: 'rename', target: { ...at('/other'), ino: 2 }, to: at('/d/e/d').path })).toBe('invalid')
    d.do(rename('/d', '/dd')) // A name that begins alike is no place below.
    expect(d.told).toEqual(['rename /d -> /dd/'])
  })

  it('replaces only when asked, and only what it can take the place of', () => {
    const d = tree()
    d.do(write('/f', 'new'))
    d.do(make('mkdir', '/empty'))
    expect(d.kind(rename('/f', '/d/g'))).toBe('exists')
    expect(d.kind(rename('/f', '/d', { replace: true }))).toBe('is_directory')
    expect(d.kind(rename('/empty', '/d', { replace: true }))).toBe('not_empty')
    expect(d.kind(rename('/empty', '/f', { replace: true }))).toBe('not_directory')
    expect(d.kind(rename('/d', '/d/g', { replace: true }))).toBe('invalid')
    d.do(rename('/f', '/d/g', { replace: true }))
    expect(d.told).toEqual(['remove /d/g', 'rename /f -> /d/g'])
    expect(d.text('/d/g')).toBe('new')
    d.do(rename('/d', '/empty', { replace: true }))
    expect(d.told).toEqual(['remove /empty/', 'rename /d -> /empty/'])
    expect(d.text('/empty/g')).toBe('new')
    d.do({ op: 'symlink', target: at('/l'), link: 'x' })
    d.do(rename('/empty/g', '/l', { replace: true }))
    expect(d.node('/l').kind).toBe('file')
  })

  it('goes where there is a directory, or makes it', () => {
    const d = tree()
    expect(d.kind(rename('/none', '/x'))).toBe('not_found')
    expect(d.kind(rename('/d/g', '/p/q/g'))).toBe('not_found')
    expect(d.kind(rename('/d/e', '/d/g/e'))).toBe('not_directory')
    expect(d.kind(rename('/d/e', '/d/g/e', { parents: true }))).toBe('not_directory')
    d.do(rename('/d/g', '/p/q/g', { parents: true }))
    expect(d.told).toEqual(['create /p', 'create /p/q', 'rename /d/g -> /p/q/g'])
    expect(d.machine.revision).toBe(3)
  })
})

type Txn = Extract<Command, { op: 'txn' }>

function txn(then: Txn['then'], conditions: Txn['if'] = [], otherwise: Txn['else'] = []): Txn {
  return { op: 'txn', if: conditions, then, else: otherwise }
}

describe('txn', () => {
  it('takes the branch that its conditions tell, at one revision, in order', () => {
    const d = tree()
    const done = d.txn(
      txn(
        [write('/new', 'a'), { op: 'read', path: at('/new').path }, rename('/new', '/moved'), remove('/d/g')],
        [
          { path: at('/d/g').path, is: { path: 5, version: 1 } },
          { path: at('/new').path, is: 'none' },
          { path: at('/d').path, is: 'exists' },
        ],
      ),
    )
    expect(done).toMatchObject({ branch: 'then', revision: 3 })
    expect(done.results.map(({ op }) => op)).toEqual(['mutation', 'read', 'mutation', 'mutation'])
    expect(d.told).toEqual(['create /new', 'rename /new -> /moved', 'remove /d/g'])
    expect(d.machine.revision).toBe(3)
    const other = d.txn(txn([], [{ path: at('/d/g').path, is: 'exists' }], [{ op: 'stat', path: at('/moved').path }]))
    expect(other).toMatchObject({ branch: 'else', revision: 3, results: [{ op: 'stat', node: { name: 'moved' } }] })
    expect(d.last!.revision).toBeUndefined()
    for (const is of ['none' as const, { path: 2, version: 2 }, { path: 3, version: 1 }]) {
      expect(d.txn(txn([], [{ path: at('/d').path, is }])).branch).toBe('else')
    }
    expect(d.txn(txn([])).branch).toBe('then')
  })

  it('is all or nothing', () => {
    const d = tree()
    const before = JSON.stringify([...d.tree.nodes])
    const ino = d.tree.nextIno
    expect(d.kind(txn([write('/new', 'a'), rename('/d', '/x'), make('mkdir', '/y/z', { parents: true }), remove('/none')]))).toBe(
      'not_found',
    )
    expect(d.kind(txn([write('/new', 'a'), { op: 'read', path: at('/d').path }]))).toBe('is_directory')
    expect(d.kind(txn([write('/new', 'a'), { op: 'stat', path: at('/none').path }]))).toBe('not_found')
    expect(JSON.stringify([...d.tree.nodes])).toBe(before)
    expect(d.has('/d/e/f')).toBe(true)
    expect(d.tree.nextIno).toBe(ino)
    expect(d.machine.revision).toBe(2)
  })

  it('has limits', () => {
    const d = tree()
    const step = { op: 'stat', path: at('/d').path } as const
    expect(d.kind(txn(Array.from({ length: limits.txn_operations_max + 1 }, () => step)))).toBe('too_large')
    const large = put('/big', { kind: 'replace', bytes: new Uint8Array(limits.inline_bytes_max) })
    const count = limits.txn_bytes_max / limits.inline_bytes_max + 1
    expect(
      d.kind(
        txn(
          [],
          [],
          Array.from({ length: count }, () => large),
        ),
      ),
    ).toBe('too_large')
    d.do(large)
    const read = { op: 'read', path: at('/big').path } as const
    expect(d.kind(txn(Array.from({ length: count }, () => read)))).toBe('too_large')
    expect(d.kind(txn(Array.from({ length: count - 1 }, () => read)))).toBe('txn')
  })
})
