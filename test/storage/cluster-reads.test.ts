/** What a store shows on a replica that has not heard of everything yet. */
import { afterEach, beforeEach, describe, expect, it } from 'vitest'
import type { ReadOptions } from '../../namespace/file-server.ts'
import { limits } from '../../namespace/limits.ts'
import { at, bytes, contextOf, isSettled, Pair, type Replica } from './cluster-pair.ts'

let pair: Pair
let a: Replica
let b: Replica
const context = contextOf()
const text = (value: Uint8Array): string => Buffer.from(value).toString()

beforeEach(async () => {
  pair = await new Pair().open()
  a = pair.a
  b = pair.b
})

afterEach(() => pair.close())

/** What is asked of b while it does not know what a acknowledged; told after b heard of it. */
async function behind<T>(ask: () => Promise<T>): Promise<T> {
  const answer = ask()
  expect(await isSettled(answer)).toBe(false)
  b.catchUp()
  return answer
}

describe('what was acknowledged elsewhere is seen', () => {
  beforeEach(async () => {
    await a.store.write(context, at('/d/f'), bytes('old'), { parents: true })
    await a.store.symlink(context, at('/l'), 'old')
    b.isLagging = true
  })

  it('by stat, read, list, readlink and getRights', async () => {
    await a.store.write(context, at('/d/f'), bytes('newer'))
    await a.store.create(context, at('/d/g'))
    await a.store.remove(context, at('/l'))
    await a.store.symlink(context, at('/l'), 'new')
    await a.store.setRights(context, at('/d'), [{ who: 'ann', rights: ['read', 'list'] }])
    const asked = [
      b.store.stat(context, at('/d/f')).then(({ stat }) => stat.size),
      b.store.read(context, at('/d/f')).then(({ bytes: value }) => text(value)),
      b.store.list(context, at('/d')).then(({ entries }) => entries.map(({ name }) => name).join()),
      b.store.readlink(context, at('/l')).then(({ target }) => target),
      b.store.getRights(contextOf('ann'), at('/d')).then(({ mine }) => mine.join()),
    ]
    for (const answer of asked) expect(await isSettled(answer)).toBe(false)
    b.catchUp()
    expect(await Promise.all(asked)).toEqual([5, 'newer', 'f,g', 'new', 'read,list'])
  })

  it('but what is stale is given at once', async () => {
    await a.store.write(context, at('/d/f'), bytes('newer'))
    const stale: ReadOptions = { consistency: 'stale' }
    b.hasLeader = false
    expect(text((await b.store.read(context, at('/d/f'), stale)).bytes)).toBe('old')
    expect((await b.store.stat(context, at('/d/f'), stale)).stat.size).toBe(3)
    expect((await b.store.list(context, at('/d'), stale)).entries).toHaveLength(1)
    expect((await b.store.readlink(context, at('/l'), stale)).target).toBe('old')
    expect(b.rounds).toBe(0)
    await expect(b.store.read(context, at('/d/f'))).rejects.toMatchObject({ kind: 'unavailable', outcome: 'none' })
  })

  it('by open, and by what handles read and tell', async () => {
    const atomic = (await b.store.open(context, at('/d/f'), { read: true, write: true })).handle
    const shared = (await b.store.open(context, at('/d/f'), { read: true, mode: 'shared' })).handle
    await a.store.write(context, at('/d/f'), bytes('newer'))
    const asked = [
      b.store.readHandle(context, atomic, 0, 100).then(({ bytes: value }) => text(value)),
      b.store.readHandle(context, shared, 0, 100).then(({ bytes: value }) => text(value)),
      b.store.statHandle(context, atomic).then(({ stat }) => stat.size),
      b.store.statHandle(context, shared).then(({ stat }) => stat.size),
    ]
    for (const answer of asked) expect(await isSettled(answer)).toBe(false)
    b.catchUp()
    expect(await Promise.all(asked)).toEqual(['newer', 'newer', 5, 5])
    await a.store.write(context, at('/d/new'), bytes('x'))
    expect((await behind(() => b.store.open(context, at('/d/new'), { read: true }))).stat.size).toBe(1)
    for (const handle of [atomic, shared]) await b.store.closeHandle(context, handle)
  })

  it('by a handle that begins to write part of the file', async () => {
    const { handle } = await b.store.open(context, at('/d/f'), { write: true })
    await a.store.write(context, at('/d/f'), bytes('newer'))
    await behind(() => b.store.writeHandle(context, handle, bytes('N'), 0))
    // What is staged is the handle's own: nobody is asked any more.
    const { rounds } = b
    await b.store.writeHandle(context, handle, bytes('E'), 1)
    expect(b.rounds).toBe(rounds)
    const closed = b.store.closeHandle(context, handle)
    expect(await isSettled(closed)).toBe(false)
    b.catchUp()
    await closed
    expect(text((await a.store.read(context, at('/d/f'))).bytes)).toBe('NEwer')
  })

  it('by whoever locks: directories, rights and the lease', async () => {
    await a.store.mkdir(context, at('/locks'))
    await a.store.setRights(context, at('/locks'), [{ who: 'ann', rights: ['create', 'list'] }])
    const { lease } = await a.store.grantLease(contextOf('ann'), 60_000)
    const lock = b.store.lock(contextOf('ann'), at('/locks/one'), lease)
    expect(await isSettled(lock)).toBe(false)
    b.isLagging = false
    b.catchUp()
    expect((await lock).token).toBe((await a.store.stat(context, at('/locks/one'))).stat.createdRevision)
  })

  it('while an opening waits, its session can end', async () => {
    await a.store.create(context, at('/d/new'))
    const opening = b.store.open(contextOf('owner', { session: 7 }), at('/d/new'), { read: true })
    expect(await isSettled(opening)).toBe(false)
    await b.store.closeSession(7)
    b.catchUp()
    await expect(opening).rejects.toMatchObject({ kind: 'unavailable' })
    expect(b.store.openHandles).toBe(0)
  })
})

describe('positions', () => {
  beforeEach(async () => {
    await a.store.write(context, at('/f'), bytes('1'))
    b.isLagging = true
  })

  it('of the cluster are waited for, also by stale reads; the deadline tells where the replica is', async () => {
    const { position } = await a.store.write(context, at('/f'), bytes('2'))
    const read = b.store.read(context, at('/f'), { consistency: 'stale', minPosition: position })
    expect(await isSettled(read)).toBe(false)
    pair.now = performance.now()
    const late = b.store.stat({ ...context, deadline: pair.now + 100 }, at('/f'), { consistency: 'stale', minPosition: position })
    await expect(late).rejects.toMatchObject({ kind: 'deadline', message: 'the store is at revision 1 here, 2 was asked for' })
    expect(b.rounds).toBe(0)
    b.catchUp()
    expect(text((await read).bytes)).toBe('2')
  })

  it('of the past need nobody; one not reached here is looked for, one that nobody has reached is none', async () => {
    const first = (await a.store.stat(context, at('/f'))).position
    const { position } = await a.store.write(context, at('/f'), bytes('2'))
    await a.store.write(context, at('/f'), bytes('3'))
    expect(text((await b.store.read(context, at('/f'), { at: first })).bytes)).toBe('1')
    expect(b.rounds).toBe(0)
    expect(text((await behind(() => b.store.read(context, at('/f'), { at: position }))).bytes)).toBe('2')
    const future = [{ ...position[0]!, revision: 9 }]
    await expect(b.store.read(context, at('/f'), { at: future })).rejects.toMatchObject({ kind: 'invalid' })
    b.hasLeader = false
    await expect(b.store.read(context, at('/f'), { at: future })).rejects.toMatchObject({ kind: 'unavailable' })
  })

  it('by time are those of the cluster', async () => {
    await a.store.write(context, at('/f'), bytes('2'))
    const now = pair.wall * 1000 + 1e6
    expect(text((await behind(() => b.store.read(context, at('/f'), { at: now }))).bytes)).toBe('2')
  })

  it('of the past are shown by the rights of now', async () => {
    const past = await a.store.setRights(context, at('/'), [{ who: 'ann', rights: ['read', 'list'] }])
    b.catchUp()
    await a.store.setRights(context, at('/'), undefined)
    const read = b.store.read(contextOf('ann'), at('/f'), { at: past.position })
    expect(await isSettled(read)).toBe(false)
    b.catchUp()
    await expect(read).rejects.toMatchObject({ kind: 'denied' })
  })

  it('of a page are shown by whichever replica gives the next', async () => {
    for (const name of ['b', 'c', 'd']) await a.store.create(context, at(`/${name}`))
    const first = await a.store.list(context, at('/'), { limit: 2 })
    await a.store.create(context, at('/bb'))
    const second = await behind(() => b.store.list(context, at('/'), { limit: 2, cursor: first.next }))
    expect(second.entries.map(({ name }) => name)).toEqual(['d', 'f'])
  })
})

describe('changes made on a replica that lags', () => {
  const large = Buffer.alloc(limits.inline_bytes_max + 1, 'x')

  it('of part of a large value are made from what it is, in one more try', async () => {
    await a.store.write(context, at('/f'), large)
    b.isLagging = true
    await a.store.write(context, at('/f'), bytes('A'), { at: 0 })
    await a.store.write(context, at('/f'), bytes('AB'), { at: 1 })
    const before = b.proposals
    b.beforePropose = () => queueMicrotask(() => b.catchUp())
    await b.store.write(context, at('/f'), bytes('end'), { at: 'append' })
    // Refused as it stands; made from what was here, and refused; made from what is there.
    expect(b.proposals - before).toBeLessThanOrEqual(3)
    const { bytes: value } = await a.store.read(context, at('/f'))
    expect(text(value.subarray(0, 4))).toBe('AABx')
    expect(text(value.subarray(large.length - 1))).toBe('xend')
  })

  it('of what a shared handle wrote come after what others did', async () => {
    await a.store.write(context, at('/f'), bytes('abcdef'))
    const { handle } = await b.store.open(context, at('/f'), { read: true, write: true, mode: 'shared' })
    await b.store.writeHandle(context, handle, bytes('X'), 0)
    b.isLagging = true
    await a.store.write(context, at('/f'), large)
    b.beforePropose = () => queueMicrotask(() => b.catchUp())
    await b.store.closeHandle(context, handle)
    const { bytes: value } = await a.store.read(context, at('/f'))
    expect(text(value.subarray(0, 3))).toBe('Xxx')
    expect(value).toHaveLength(large.length)
  })

  it('by path are behind what handles here wrote to the file of that name, wherever it was moved from', async () => {
    await a.store.write(context, at('/f'), bytes('....'))
    const { handle } = await b.store.open(context, at('/f'), { write: true, mode: 'shared' })
    await b.store.writeHandle(context, handle, bytes('X'), 3)
    b.isLagging = true
    await a.store.rename(context, at('/f'), at('/g'))
    b.beforePropose = () => queueMicrotask(() => b.catchUp())
    const written = b.store.write(context, at('/g'), bytes('whole'))
    expect(await isSettled(written)).toBe(false)
    b.catchUp()
    await written
    await b.store.closeHandle(context, handle)
    expect(text((await a.store.read(context, at('/g'))).bytes)).toBe('whole')
  })
})
