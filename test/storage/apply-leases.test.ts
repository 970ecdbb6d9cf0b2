import { describe, expect, it } from 'vitest'
import { limits } from '../../namespace/limits.ts'
import { Machine } from '../../storage/apply/machine.ts'
import type { Command } from '../../storage/model.ts'
import { at, bytes, Driven, make, put, remove, rename, write } from './apply-machine.ts'

function grant(lease: string, ttlMs = 500): Command {
  return { op: 'grantLease', lease, ttlMs }
}

function end(lease: string, expired = false): Command {
  return { op: 'endLease', lease, expired }
}

function files(d: Driven): Record<string, number> {
  return Object.fromEntries(d.machine.leases.list().map(({ id, files: count }) => [id, count]))
}

describe('leases', () => {
  it('are granted without a revision and end with their files, in one', () => {
    const d = new Driven()
    expect(d.apply(grant('l'))).toEqual({ kind: 'lease', lease: 'l', ttlMs: 500 })
    expect(d.last).toMatchObject({ revision: undefined, leases: [{ lease: 'l', ttlMs: 500 }] })
    expect(d.machine.leases.list()).toEqual([{ id: 'l', ttlMs: 500, owner: 'root', files: 0 }])
    expect(d.machine.leases.ownerOf('l')).toBe('root')
    d.do(write('/b', 'x', { lease: 'l' }))
    d.do(write('/d/a', 'x', { lease: 'l', parents: true }))
    d.do(make('create', '/c', { lease: 'l' }))
    d.do(rename('/b', '/d/b'))
    d.do(remove('/c'))
    expect(d.node('/d').lease).toBeUndefined()
    expect(files(d)).toEqual({ l: 2 })
    expect(d.do(end('l', true))).toMatchObject({ revision: 6, created: false })
    expect(d.told).toEqual(['remove /d/b', 'remove /d/a'])
    expect(d.last!.revision!.revision).toBe(6)
    expect(d.last!.leases).toEqual([{ lease: 'l', ttlMs: undefined }])
    expect(d.machine.leases.size).toBe(0)
    expect(d.has('/d')).toBe(true)
    expect(d.kind(end('l'))).toBe('not_found')
    expect(d.kind(write('/x', 'x', { lease: 'l' }))).toBe('not_found')
    expect(d.has('/x')).toBe(false)
  })

  it('remove the oldest file first, whenever it came to them', () => {
    const d = new Driven()
    d.apply(grant('l'))
    d.do(write('/old', 'x'))
    d.do(write('/young', 'x', { lease: 'l' }))
    d.do(write('/old', 'x', { lease: 'l' }))
    d.do(end('l'))
    expect(d.told).toEqual(['remove /old', 'remove /young'])
  })

  it('without files end without a revision', () => {
    const d = new Driven()
    d.do(write('/f', 'x'))
    d.apply(grant('l'))
    expect(d.do(end('l'))).toMatchObject({ revision: 1 })
    expect(d.last!.revision).toBeUndefined()
  })

  it('skip files that are gone with a directory above them', () => {
    const d = new Driven()
    d.apply(grant('l'))
    d.do(write('/d/f', 'x', { lease: 'l', parents: true }))
    d.do(write('/g', 'x', { lease: 'l' }))
    d.do(remove('/d', true))
    d.do(write('/d/f', 'another', { parents: true }))
    d.do(end('l'))
    expect(d.told).toEqual(['remove /g'])
    expect(d.text('/d/f')).toBe('another')
  })

  it('take a directory with all that is in it', () => {
    const d = new Driven()
    d.apply(grant('l'))
    d.do(make('mkdir', '/d', { lease: 'l' }))
    d.do(write('/d/f', 'x', { lease: 'l' }))
    d.do(end('l'))
    expect(d.told).toEqual(['remove /d/'])
  })

  it('keep a file that is written in part, and let go of one that is written anew without them', () => {
    const d = new Driven()
    d.apply(grant('l'))
    d.apply(grant('m'))
    d.do(write('/f', 'x', { lease: 'l' }))
    d.do(put('/f', { kind: 'append', bytes: bytes('y') }))
    d.do(put('/f', { kind: 'splice', offset: 0, bytes: bytes('z') }))
    d.do({ op: 'setStat', target: at('/f'), size: 1 })
    d.do(put('/f', { kind: 'replace', bytes: bytes('q'), base: { path: 2, version: 4 } }))
    expect(files(d)).toEqual({ l: 1, m: 0 })
    d.do(write('/f', 'x', { lease: 'l' }))
    expect(files(d)).toEqual({ l: 1, m: 0 })
    d.do(write('/f', 'x', { lease: 'm' }))
    expect(files(d)).toEqual({ l: 0, m: 1 })
    d.do(end('l'))
    expect(d.has('/f')).toBe(true)
    d.do(write('/f', 'x'))
    expect(files(d)).toEqual({ m: 0 })
    expect(d.node('/f').lease).toBe(undefined)
    d.do(end('m'))
    expect(d.has('/f')).toBe(true)
  })

  it('of a ttl begin and end with their file', () => {
    const d = new Driven()
    d.do(write('/f', 'x', { ttl: { lease: 't1', ttlMs: 1000 } }))
    expect(d.last!.leases).toEqual([{ lease: 't1', ttlMs: 1000 }])
    d.do(write('/f', 'x', { ttl: { lease: 't2', ttlMs: 2000 } }))
    expect(d.last!.leases).toEqual([
      { lease: 't2', ttlMs: 2000 },
      { lease: 't1', ttlMs: undefined },
    ])
    expect(files(d)).toEqual({ t2: 1 })
    d.do(remove('/f'))
    expect(d.last!.leases).toEqual([{ lease: 't2', ttlMs: undefined }])
    expect(d.machine.leases.size).toBe(0)
    expect(d.kind(write('/f', 'x', { lease: 'l', ttl: { lease: 't3', ttlMs: 500 } }))).toBe('invalid')
    for (const ttlMs of [0, -1, 99, 150.5, limits.lease_ttl_ms_max + 1, NaN]) {
      expect(d.kind(write('/f', 'x', { ttl: { lease: 't', ttlMs } }))).toBe('invalid')
      expect(d.kind(grant('l', ttlMs))).toBe('invalid')
    }
  })

  it('that a failed change touched are as before', () => {
    const d = new Driven()
    d.apply(grant('l'))
    d.do(write('/f', 'x', { lease: 'l' }))
    d.do(write('/g', 'x', { ttl: { lease: 't', ttlMs: 500 } }))
    const steps = [
      write('/f', 'y'),
      write('/h', 'y', { lease: 'l' }),
      write('/g', 'y', { ttl: { lease: 't2', ttlMs: 500 } }),
      remove('/g'),
      remove('/none'),
    ]
    expect(d.kind({ op: 'txn', if: [], then: steps, else: [] })).toBe('not_found')
    expect(d.last!.leases).toEqual([])
    expect(files(d)).toEqual({ l: 1, t: 1 })
    d.do(end('l'))
    expect(d.told).toEqual(['remove /f'])
    d.do(end('t'))
    expect(d.told).toEqual(['remove /g'])
  })

  it('belong to who was granted them', () => {
    const d = new Driven()
    d.do({ op: 'setRights', target: at('/'), rights: [{ who: '*', rights: ['create', 'write', 'read', 'list'] }] })
    d.apply(grant('a'), { actor: 'alice' })
    expect(d.kind(grant('a'), { actor: 'bob' })).toBe('exists')
    expect(d.kind(end('a'), { actor: 'bob' })).toBe('denied')
    expect(d.kind(write('/b', 'x', { lease: 'a' }), { actor: 'bob' })).toBe('denied')
    d.do(write('/a', 'x', { lease: 'a' }), { actor: 'alice' })
    d.do(write('/r', 'x', { lease: 'a' }))
    // Its files go though alice may not remove them by name.
    expect(d.kind(remove('/a'), { actor: 'alice' })).toBe('denied')
    d.do(end('a'), { actor: 'alice' })
    expect(d.told).toEqual(['remove /a', 'remove /r'])
  })

  it('have a bound of files, in which those that are gone do not count', () => {
    const d = new Driven()
    d.apply(grant('l'))
    d.do(make('mkdir', '/d'))
    for (let i = 0; i < limits.lease_files_max; i++) d.do(make('create', `/d/${i}`, { lease: 'l' }))
    expect(d.kind(make('create', '/one-more', { lease: 'l' }))).toBe('too_large')
    expect(d.has('/one-more')).toBe(false)
    d.do(remove('/d', true))
    d.do(make('create', '/one-more', { lease: 'l' }))
    expect(files(d)).toEqual({ l: 1 })
  })

  it('have a bound of their own', () => {
    const d = new Driven()
    for (let i = 0; i < limits.leases_max; i++) d.apply(grant(`l${i}`))
    expect(d.kind(grant('one-more'), { client: { id: 'c', born: 1, settled: 0 }, seq: 1 })).toBe('overloaded')
    d.do(end('l7'))
    expect(d.kind(grant('one-more'), { client: { id: 'c', born: 1, settled: 0 }, seq: 1 })).toBe('lease')
  })

  it('outlive a restart', () => {
    const d = new Driven()
    d.apply(grant('l', 700), { actor: 'alice' })
    d.do(write('/b', 'x', { lease: 'l' }))
    d.do(write('/a', 'x', { lease: 'l' }))
    d.do(write('/t', 'x', { ttl: { lease: 't', ttlMs: 500 } }))
    const saved = [...d.machine.exportChanged()]
    d.machine = new Machine({ owner: 'root' })
    d.machine.import(saved)
    expect(d.machine.leases.list()).toEqual([
      { id: 'l', ttlMs: 700, owner: 'alice', files: 2 },
      { id: 't', ttlMs: 500, owner: 'root', files: 1 },
    ])
    d.do(remove('/t'))
    expect(d.machine.leases.size).toBe(1)
    d.do(end('l'))
    expect(d.told).toEqual(['remove /b', 'remove /a'])
  })
})
