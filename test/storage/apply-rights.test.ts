import { describe, expect, it } from 'vitest'
import { limits } from '../../namespace/limits.ts'
import { everyRight, type Right, type RightsRecord } from '../../namespace/rights.ts'
import { rightsAt } from '../../storage/apply/rights.ts'
import type { Command } from '../../storage/model.ts'
import { at, bytes, Driven, make, put, remove, rename, write } from './apply-machine.ts'

const alice = { actor: 'alice' }

function guard(path: string, ...rights: Right[]): Command {
  return { op: 'setRights', target: at(path), rights: [{ who: 'alice', rights }] }
}

/** /pub and /own, with a file and a directory each; alice has `rights` at /pub. */
function guarded(...rights: Right[]): Driven {
  const d = new Driven()
  for (const top of ['/pub', '/own']) {
    d.do(write(`${top}/f`, 'x', { parents: true }))
    d.do(write(`${top}/sub/f`, 'x', { parents: true }))
  }
  d.do(guard('/pub', ...rights))
  return d
}

const commands: Record<string, { readonly command: () => Command; readonly needs: readonly Right[] }> = {
  'write an existing file': { command: () => write('/pub/f', 'y'), needs: ['write'] },
  'append to one': { command: () => put('/pub/f', { kind: 'append', bytes: bytes('y') }), needs: ['write'] },
  'write it by number': { command: () => ({ ...write('/pub/f', 'y'), target: { ...at('/pub/f'), ino: 3 } }), needs: ['write'] },
  'write a new file': { command: () => write('/pub/new', 'y'), needs: ['create'] },
  'write a new file with parents': { command: () => write('/pub/n/m/new', 'y', { parents: true }), needs: ['create'] },
  create: { command: () => make('create', '/pub/new'), needs: ['create'] },
  mkdir: { command: () => make('mkdir', '/pub/new'), needs: ['create'] },
  symlink: { command: () => ({ op: 'symlink', target: at('/pub/new'), link: 'x' }), needs: ['create'] },
  'remove a file': { command: () => remove('/pub/f'), needs: ['remove'] },
  'remove a tree': { command: () => remove('/pub/sub', true), needs: ['remove'] },
  rename: { command: () => rename('/pub/f', '/pub/g'), needs: ['remove', 'create'] },
  'rename over another': { command: () => rename('/pub/f', '/pub/sub/f', { replace: true }), needs: ['remove', 'create'] },
  setStat: { command: () => ({ op: 'setStat', target: at('/pub/f'), mode: 0o600 }), needs: ['write'] },
  setRights: { command: () => ({ op: 'setRights', target: at('/pub'), rights: [] }), needs: ['admin'] },
  'setRights below': { command: () => ({ op: 'setRights', target: at('/pub/sub'), rights: [] }), needs: ['admin'] },
  'txn that writes': { command: () => ({ op: 'txn', if: [], then: [write('/pub/f', 'y')], else: [] }), needs: ['write'] },
  'txn that reads': { command: () => ({ op: 'txn', if: [], then: [{ op: 'read', path: at('/pub/f').path }], else: [] }), needs: ['read'] },
}
const all: readonly Right[] = ['read', 'write', 'list', 'create', 'remove', 'admin']

describe('rights of each command', () => {
  for (const [name, { command, needs }] of Object.entries(commands)) {
    it(`${name} needs ${needs.join(' and ')}, no more and no less`, () => {
      expect(['mutation', 'txn']).toContain(guarded(...needs).kind(command(), alice))
      for (const missing of needs) {
        const d = guarded(...all.filter((right) => right !== missing))
        const before = JSON.stringify([...d.tree.nodes])
        expect(d.kind(command(), alice)).toBe('denied')
        expect(JSON.stringify([...d.tree.nodes])).toBe(before)
      }
      expect(guarded().kind(command(), alice)).toBe('denied')
      expect(['mutation', 'txn']).toContain(guarded().kind(command()))
    })
  }

  it('without a record only the owner may', () => {
    const d = guarded(...all)
    expect(d.kind(write('/own/f', 'y'), alice)).toBe('denied')
    expect(d.kind(write('/new', 'y'), alice)).toBe('denied')
  })

  it('come from the nearest record alone, by name, group or for all', () => {
    const d = guarded(...all)
    d.do({ op: 'setRights', target: at('/pub/sub'), rights: [{ who: 'group:staff', rights: ['write'] }] })
    expect(d.kind(write('/pub/sub/f', 'y'), alice)).toBe('denied')
    expect(d.kind(write('/pub/sub/f', 'y'), { actor: 'alice', groups: ['staff'] })).toBe('mutation')
    d.do({ op: 'setRights', target: at('/pub/sub'), rights: [{ who: '*', rights: ['write'] }] })
    expect(d.kind(write('/pub/sub/f', 'y'), { actor: 'bob' })).toBe('mutation')
    expect(d.node('/pub/sub').version).toBe(3)
    d.do({ op: 'setRights', target: at('/pub/sub'), rights: undefined })
    expect(d.kind(write('/pub/sub/f', 'y'), { actor: 'bob' })).toBe('denied')
    expect(d.told).toEqual([])
  })

  it('rightsAt tells mask, record and where it stands', () => {
    const d = guarded('read', 'list')
    const record: RightsRecord = [{ who: 'alice', rights: ['read', 'list'] }]
    const principal = { name: 'alice', groups: [] }
    expect(rightsAt(d.tree, at('/pub/sub/f').path, principal, 'root')).toEqual({ mask: 5, record, on: '/pub' })
    expect(rightsAt(d.tree, at('/pub/none/at/all').path, principal, 'root')).toEqual({ mask: 5, record, on: '/pub' })
    expect(rightsAt(d.tree, d.node('/pub/f').ino, { name: 'root', groups: [] }, 'root')).toEqual({ mask: everyRight, record, on: '/pub' })
    expect(rightsAt(d.tree, at('/own').path, principal, 'root')).toEqual({ mask: 0, record: undefined, on: '/' })
    expect(rightsAt(d.tree, 12345, principal, 'root')).toEqual({ mask: 0, record: undefined, on: '/' })
  })

  it('stand on directories, in bounds', () => {
    const d = guarded()
    expect(d.kind(guard('/pub/f', 'read'))).toBe('not_directory')
    expect(d.kind(guard('/none', 'read'))).toBe('not_found')
    const many = Array.from({ length: limits.rights_entries_max + 1 }, () => ({ who: 'x', rights: [] }))
    expect(d.kind({ op: 'setRights', target: at('/pub'), rights: many })).toBe('too_large')
    expect(d.kind({ op: 'setRights', target: at('/pub'), rights: [{ who: '', rights: [] }] })).toBe('invalid')
    expect(d.kind({ op: 'setRights', target: at('/pub'), rights: [{ who: 'x', rights: ['fly' as Right] }] })).toBe('invalid')
  })
})

describe('denied', () => {
  it('is said to who may not see, whether or not anything exists', () => {
    const d = guarded('write', 'create', 'remove')
    const probes = [
      (path: string): Command => remove(path),
      (path: string): Command => rename(path, '/pub/x'),
      (path: string): Command => write(path, 'y'),
      (path: string): Command => write(path, 'y', { mustExist: true }),
      (path: string): Command => ({ op: 'setStat', target: at(path), mode: 0 }),
      (path: string): Command => make('mkdir', path),
      (path: string): Command => ({ op: 'txn', if: [{ path: at(path).path, is: 'exists' }], then: [], else: [] }),
      (path: string): Command => ({ op: 'txn', if: [], then: [{ op: 'stat', path: at(path).path }], else: [] }),
    ]
    for (const probe of probes) {
      for (const path of ['/own/f', '/own/none', '/own/f/below', '/own/none/below', '/own/sub', '/none']) {
        expect(d.kind(probe(path), alice), path).toBe('denied')
      }
    }
    // What may be done is answered exactly; what cannot be seen is not.
    expect(d.kind(remove('/pub/none'), alice)).toBe('denied')
    expect(d.kind(write('/pub/f/below', 'x'), alice)).toBe('denied')
    d.do(guard('/pub', 'list', 'remove'))
    expect(d.kind(remove('/pub/none'), alice)).toBe('not_found')
    expect(d.kind(write('/pub/f/below', 'x'), alice)).toBe('not_directory')
  })
})

describe('moving what rights guard', () => {
  it('a directory with a record of its own has to let itself be removed', () => {
    const d = guarded(...all)
    d.do(guard('/pub/sub', 'read', 'list', 'write', 'create'))
    expect(d.kind(remove('/pub/sub', true), alice)).toBe('denied')
    expect(d.kind(rename('/pub/sub', '/pub/x'), alice)).toBe('denied')
    d.do(make('mkdir', '/pub/dir'))
    d.do(remove('/pub/sub/f'))
    expect(d.kind(rename('/pub/dir', '/pub/sub', { replace: true }), alice)).toBe('denied')
    d.do(guard('/pub/sub', 'remove'))
    expect(d.kind(rename('/pub/sub', '/pub/x'), alice)).toBe('mutation')
    // The record went along.
    expect(d.kind(write('/pub/x/new', 'y'), alice)).toBe('denied')
    d.do(guard('/pub', 'read', 'list', 'create'))
    expect(d.kind(remove('/pub/x', true), alice)).toBe('denied')
  })

  it('does not open what the record before had closed', () => {
    const d = guarded(...all)
    d.do(guard('/own', 'remove', 'write', 'create'))
    expect(d.kind(rename('/own/f', '/pub/g'), alice)).toBe('denied')
    expect(d.kind(rename('/own/f', '/own/sub/g'), alice)).toBe('mutation')
    d.do(guard('/own', 'remove', 'read'))
    expect(d.kind(rename('/own/sub', '/pub/s'), alice)).toBe('denied')
    d.do(guard('/own', 'remove', 'read', 'list'))
    expect(d.kind(rename('/own/sub', '/pub/s'), alice)).toBe('mutation')
  })

  it('needs create where it goes, parents included', () => {
    const d = guarded(...all)
    d.do(guard('/own', 'read', 'list', 'remove'))
    expect(d.kind(rename('/pub/f', '/own/g'), alice)).toBe('denied')
    expect(d.kind(rename('/pub/f', '/own/n/g', { parents: true }), alice)).toBe('denied')
    expect(d.kind(rename('/pub/f', '/own/f', { replace: true }), alice)).toBe('denied')
    expect(d.kind(rename('/pub/f', '/own/f'), alice)).toBe('exists')
    d.do(guard('/own', 'create'))
    expect(d.kind(rename('/pub/f', '/own/f', { replace: true }), alice)).toBe('denied')
    expect(d.kind(rename('/pub/f', '/own/n/g', { parents: true }), alice)).toBe('mutation')
  })
})
