import { describe, expect, it } from 'vitest'
import { limits } from '../../namespace/limits.ts'
import { parsePath } from '../../namespace/path.ts'
import type { BlobRef, TreeCommand } from '../../storage/model.ts'
import { at, bytes, Driven, make, put, remove, rename, write } from './apply-machine.ts'

const blob: BlobRef = { root: new Uint8Array(32).fill(1), depth: 1, size: 500_000 }

function setStat(path: string, changes: Partial<Extract<TreeCommand, { op: 'setStat' }>>): TreeCommand {
  return { op: 'setStat', target: at(path), ...changes }
}

describe('write', () => {
  it('makes a file, then counts its versions', () => {
    const d = new Driven()
    expect(d.do(write('/f', 'one'), { actor: 'root' })).toEqual({
      qid: { type: 0, path: 2, version: 1 },
      revision: 1,
      created: true,
      size: 3,
    })
    expect(d.node('/f')).toMatchObject({
      createdAt: 10,
      modifiedAt: 10,
      owner: 'root',
      group: '',
      modifiedBy: 'root',
      mode: 0o644,
      since: 1,
    })
    expect(d.told).toEqual(['create /f'])
    expect(d.do(write('/f', ''))).toMatchObject({ qid: { path: 2, version: 2 }, revision: 2, created: false, size: 0 })
    expect(d.node('/f')).toMatchObject({ createdRevision: 1, revision: 2, createdAt: 10, modifiedAt: 20, content: { kind: 'none' } })
    expect(d.told).toEqual(['change /f'])
    expect(d.events[0]!.previous).toMatchObject({ version: 1 })
  })

  it('keeps its own copy of the value', () => {
    const d = new Driven()
    const given = bytes('mine')
    d.do(put('/f', { kind: 'replace', bytes: given }))
    given.fill(0)
    expect(d.text('/f')).toBe('mine')
  })

  it('takes what an import gives', () => {
    const d = new Driven()
    d.do(write('/f', 'x', { modifiedAt: 7, mode: 0o600, contentType: 'text/plain' }))
    expect(d.node('/f')).toMatchObject({ modifiedAt: 7, createdAt: 10, mode: 0o600, contentType: 'text/plain' })
    d.do(write('/f', 'y'))
    expect(d.node('/f')).toMatchObject({ modifiedAt: 20, mode: 0o600, contentType: 'text/plain' })
  })

  it('makes missing parents, each with an event, at one revision', () => {
    const d = new Driven()
    expect(d.kind(write('/a/b/f', 'x'))).toBe('not_found')
    expect(d.machine.revision).toBe(0)
    d.do(write('/a/b/f', 'x', { parents: true }))
    expect(d.told).toEqual(['create /a', 'create /a/b', 'create /a/b/f'])
    expect(d.machine.revision).toBe(1)
    expect(d.node('/a')).toMatchObject({ kind: 'directory', mode: 0o755, version: 1, revision: 1 })
    d.do(write('/a/b/g', 'x', { parents: true }))
    expect(d.told).toEqual(['create /a/b/g'])
    expect(d.node('/a/b').version).toBe(1)
  })

  it('appends and splices', () => {
    const d = new Driven()
    d.do(put('/f', { kind: 'append', bytes: bytes('ab') }))
    d.do(put('/f', { kind: 'append', bytes: bytes('cd') }))
    expect(d.text('/f')).toBe('abcd')
    d.do(put('/f', { kind: 'splice', offset: 1, bytes: bytes('XY') }))
    expect(d.text('/f')).toBe('aXYd')
    d.do(put('/f', { kind: 'splice', offset: 6, bytes: bytes('z') }))
    expect(d.text('/f')).toBe('aXYd\0\0z')
    d.do(put('/g', { kind: 'splice', offset: 2, bytes: bytes('z') }))
    expect(d.text('/g')).toBe('\0\0z')
    expect(d.do(put('/g', { kind: 'splice', offset: 9, bytes: bytes('') }))).toMatchObject({ size: 3 })
  })

  it('answers needs_chunks, and changes nothing, where the value outgrows its record or is chunks already', () => {
    const d = new Driven()
    const most = new Uint8Array(limits.inline_bytes_max)
    d.do(put('/f', { kind: 'replace', bytes: most }))
    expect(d.kind(put('/f', { kind: 'append', bytes: bytes('x') }))).toBe('needs_chunks')
    expect(d.kind(put('/f', { kind: 'splice', offset: most.length, bytes: bytes('x') }))).toBe('needs_chunks')
    expect(d.kind(put('/g/h', { kind: 'splice', offset: most.length, bytes: bytes('x') }, { parents: true }))).toBe('needs_chunks')
    expect(d.kind(setStat('/f', { size: most.length + 1, mode: 0 }))).toBe('needs_chunks')
    expect(d.has('/g')).toBe(false)
    expect(d.machine.revision).toBe(1)
    d.do(put('/f', { kind: 'blob', blob, base: undefined }))
    expect(d.node('/f').content).toEqual({ kind: 'blob', blob })
    expect(d.kind(put('/f', { kind: 'append', bytes: bytes('x') }))).toBe('needs_chunks')
    expect(d.kind(put('/f', { kind: 'splice', offset: 0, bytes: bytes('x') }))).toBe('needs_chunks')
    expect(d.kind(setStat('/f', { size: 0 }))).toBe('needs_chunks')
    const txn = d.apply({ op: 'txn', if: [], then: [write('/other', 'x'), put('/f', { kind: 'append', bytes: bytes('x') })], else: [] })
    expect(txn).toEqual({ kind: 'needs_chunks' })
    expect(d.has('/other')).toBe(false)
  })

  it('asks for a value made from an older one to be made again', () => {
    const d = new Driven()
    d.do(write('/f', 'x'))
    const old = { path: 2, version: 1 }
    d.do(put('/f', { kind: 'blob', blob, base: old }))
    expect(d.kind(put('/f', { kind: 'blob', blob, base: old }))).toBe('needs_chunks')
    expect(d.kind(put('/f', { kind: 'replace', bytes: bytes('y'), base: old }))).toBe('needs_chunks')
    expect(d.kind(put('/f', { kind: 'blob', blob, base: 'none' }))).toBe('needs_chunks')
    expect(d.kind(put('/g', { kind: 'blob', blob, base: old }))).toBe('needs_chunks')
    expect(d.node('/f').version).toBe(2)
    d.do(put('/g', { kind: 'blob', blob, base: 'none' }))
  })

  it('refuses what no value can be', () => {
    const d = new Driven()
    for (const offset of [-1, 0.5, NaN, 2 ** 53, Infinity]) {
      expect(d.kind(put('/f', { kind: 'splice', offset, bytes: bytes('x') }))).toBe('invalid')
    }
    expect(d.kind(put('/f', { kind: 'splice', offset: limits.file_bytes_max, bytes: bytes('x') }))).toBe('too_large')
    expect(d.kind(put('/f', { kind: 'replace', bytes: new Uint8Array(limits.inline_bytes_max + 1) }))).toBe('invalid')
    expect(d.kind(put('/f', { kind: 'blob', blob: { ...blob, size: limits.file_bytes_max + 1 }, base: undefined }))).toBe('too_large')
    expect(d.kind(put('/f', { kind: 'blob', blob: { ...blob, size: -1 }, base: undefined }))).toBe('invalid')
    expect(d.kind(put('/f', { kind: 'blob', blob: { ...blob, root: new Uint8Array(5) }, base: undefined }))).toBe('invalid')
    d.do(put('/full', { kind: 'blob', blob: { ...blob, size: limits.file_bytes_max }, base: undefined }))
    expect(d.kind(put('/full', { kind: 'append', bytes: bytes('x') }))).toBe('too_large')
    for (const fields of [{ mode: 0o10000 }, { mode: -1 }, { modifiedAt: 0.5 }, { contentType: 'x'.repeat(256) }, { contentType: '\0' }]) {
      expect(d.kind(write('/f', 'x', fields))).toBe('invalid')
    }
    expect(d.has('/f')).toBe(false)
  })

  it('walks through directories only', () => {
    const d = new Driven()
    d.do(write('/f', 'x'))
    d.do(make('mkdir', '/d'))
    d.do({ op: 'symlink', target: at('/l'), link: '/d' })
    expect(d.node('/l')).toMatchObject({ kind: 'symlink', mode: 0o777 })
    expect(d.do(write('/d/f', 'x')).qid.type).toBe(0)
    expect(d.kind(write('/f/x', 'x', { parents: true }))).toBe('not_directory')
    expect(d.kind(write('/f/x/y', 'x'))).toBe('not_directory')
    expect(d.kind(write('/l/x', 'x', { parents: true }))).toBe('not_directory')
    expect(d.kind(remove('/f/x'))).toBe('not_directory')
    expect(d.kind(write('/d', 'x'))).toBe('is_directory')
    expect(d.kind(write('/', 'x'))).toBe('is_directory')
    expect(d.kind(write('/l', 'x'))).toBe('invalid')
    expect(d.kind(write('/none', 'x', { mustExist: true }))).toBe('not_found')
  })
})

describe('compare and set', () => {
  it('needs life and version, both', () => {
    const d = new Driven()
    d.do(write('/f', '1'))
    const first = { path: 2, version: 1 }
    expect(d.kind(write('/f', '2', { ifMatch: { path: 2, version: 2 } }))).toBe('conflict')
    expect(d.kind(write('/f', '2', { ifMatch: { path: 3, version: 1 } }))).toBe('conflict')
    expect(d.kind(write('/f', '2', { ifMatch: 'none' }))).toBe('conflict')
    expect(d.kind(write('/new', '2', { ifMatch: first }))).toBe('conflict')
    expect(d.kind({ op: 'remove', target: at('/f'), ifMatch: { path: 2, version: 9 } })).toBe('conflict')
    expect(d.kind({ op: 'rename', target: at('/f'), to: parsePath('/g'), ifMatch: 'none' })).toBe('conflict')
    expect(d.kind(setStat('/f', { mode: 0, ifMatch: { path: 2, version: 9 } }))).toBe('conflict')
    expect(d.kind({ op: 'setRights', target: at('/'), rights: undefined, ifMatch: { path: 1, version: 9 } })).toBe('conflict')
    expect(d.text('/f')).toBe('1')
    d.do(write('/f', '2', { ifMatch: first }))
    d.do(write('/new', '1', { ifMatch: 'none' }))
    // A file made anew is another, though its version is the same.
    d.do(remove('/f'))
    d.do(write('/f', '1'))
    expect(d.kind(write('/f', '2', { ifMatch: first }))).toBe('conflict')
  })
})

describe('create, mkdir, symlink', () => {
  it('make what is not there yet', () => {
    const d = new Driven()
    expect(d.do(make('create', '/f', { contentType: 'a/b' }))).toMatchObject({ created: true, size: 0, qid: { type: 0 } })
    expect(d.do(make('mkdir', '/d', { mode: 0o700 }))).toMatchObject({ created: true, qid: { type: 0x80 } })
    expect(d.do({ op: 'symlink', target: at('/d/l'), link: '../é' })).toMatchObject({ size: 5, qid: { type: 0x02 } })
    expect(d.text('/d/l')).toBe('../é')
    for (const path of ['/f', '/d', '/d/l', '/']) {
      expect(d.kind(make('create', path))).toBe('exists')
      expect(d.kind(make('mkdir', path))).toBe('exists')
      expect(d.kind(make('mkdir', path, { ifMatch: 'none' }))).toBe('conflict')
      expect(d.kind({ op: 'symlink', target: at(path), link: 'x' })).toBe('exists')
    }
    expect(d.kind(make('create', '/x', { ifMatch: { path: 1, version: 1 } }))).toBe('conflict')
    expect(d.kind({ op: 'symlink', target: at('/x'), link: '' })).toBe('invalid')
    expect(d.kind({ op: 'symlink', target: at('/x'), link: 'a\0' })).toBe('invalid')
    expect(d.kind({ op: 'symlink', target: at('/x'), link: 'é'.repeat(2049) })).toBe('name_too_long')
    expect(d.kind(make('mkdir', '/x/y/z'))).toBe('not_found')
    d.do(make('mkdir', '/x/y/z', { parents: true }))
    expect(d.told).toEqual(['create /x', 'create /x/y', 'create /x/y/z'])
  })
})

describe('setStat', () => {
  it('changes attributes and leaves the time of the content', () => {
    const d = new Driven()
    d.do(write('/f', 'abc'))
    expect(d.do(setStat('/f', { mode: 0o400, owner: 'o', group: 'g', contentType: 't' }))).toMatchObject({ revision: 2, size: 3 })
    expect(d.node('/f')).toMatchObject({ mode: 0o400, owner: 'o', group: 'g', contentType: 't', version: 2, revision: 2, modifiedAt: 10 })
    d.do(setStat('/f', { modifiedAt: 5 }))
    expect(d.node('/f')).toMatchObject({ modifiedAt: 5, version: 3 })
    expect(d.told).toEqual(['change /f'])
    d.do(setStat('/', { mode: 0o700 }))
    expect(d.node('/')).toMatchObject({ mode: 0o700, version: 2 })
    expect(d.told).toEqual(['change /'])
  })

  it('cuts and extends', () => {
    const d = new Driven()
    d.do(write('/f', 'abcd'))
    d.do(setStat('/f', { size: 2 }))
    expect(d.text('/f')).toBe('ab')
    expect(d.node('/f').modifiedAt).toBe(20)
    d.do(setStat('/f', { size: 4 }))
    expect(d.text('/f')).toBe('ab\0\0')
    d.do(setStat('/f', { size: 0 }))
    expect(d.text('/f')).toBe('none')
    expect(d.kind(setStat('/f', { size: -1 }))).toBe('invalid')
    expect(d.kind(setStat('/f', { size: limits.file_bytes_max + 1 }))).toBe('too_large')
    d.do(make('mkdir', '/d'))
    expect(d.kind(setStat('/d', { size: 0 }))).toBe('is_directory')
    expect(d.kind(setStat('/f', { owner: 'x'.repeat(256) }))).toBe('invalid')
  })

  it('is no change when it names none', () => {
    const d = new Driven()
    d.do(write('/f', 'abcd'))
    expect(d.do(setStat('/f', {}))).toMatchObject({ revision: 1, qid: { version: 1 } })
    expect(d.last!.revision).toBeUndefined()
    expect(d.kind(setStat('/none', {}))).toBe('not_found')
  })
})

describe('a target by number', () => {
  it('is acted on wherever it is now, until it is unlinked: whether its records are still here decides nothing', () => {
    const d = new Driven()
    d.do(write('/f', 'x'))
    d.do(make('mkdir', '/d'))
    d.do(rename('/f', '/d/g'))
    const target = { path: parsePath('/f'), ino: 2 }
    d.do({ op: 'write', target, content: { kind: 'append', bytes: bytes('y') } })
    expect(d.told).toEqual(['change /d/g'])
    expect(d.text('/d/g')).toBe('xy')
    d.do({ op: 'rename', target, to: parsePath('/h') })
    expect(d.told).toEqual(['rename /d/g -> /h'])
    d.do(rename('/h', '/d/g'))
    d.do(remove('/d', true))
    expect(d.kind({ op: 'write', target, content: { kind: 'append', bytes: bytes('z') } })).toBe('not_found')
    expect(d.kind({ op: 'setStat', target, size: 1 })).toBe('not_found')
    expect(d.machine.revision).toBe(7)
    expect(d.kind({ op: 'remove', target })).toBe('not_found')
    expect(d.kind({ op: 'rename', target, to: parsePath('/h') })).toBe('not_found')
    expect(d.kind({ op: 'setStat', target: { ...target, ino: 99 }, mode: 0 })).toBe('not_found')
    // Another file of its name is not it.
    d.do(write('/d/g', 'other', { parents: true }))
    expect(d.kind({ op: 'write', target, content: { kind: 'replace', bytes: bytes('q') } })).toBe('not_found')
    expect(d.text('/d/g')).toBe('other')
  })
})
