/** Files that are removed while handles have them open: what is written to them stays on the node, and is no change of the store. */
import { randomBytes } from 'node:crypto'
import { afterEach, beforeEach, expect, it } from 'vitest'
import { limits } from '../../namespace/limits.ts'
import { collect } from '../../storage/blob/collect.ts'
import { at, bytes, contextOf, hashesIn, Pair, type Replica } from './cluster-pair.ts'

let pair: Pair
let a: Replica
let b: Replica
const context = contextOf()
const both = { read: true, write: true } as const

beforeEach(async () => {
  pair = await new Pair().open()
  a = pair.a
  b = pair.b
  await a.store.write(context, at('/f'), bytes('value'))
})

afterEach(() => pair.close())

async function text(node: Replica, handle: number): Promise<string> {
  return Buffer.from((await node.store.readHandle(context, handle, 0, 100)).bytes).toString()
}

it('is seen by every handle of the node, is nothing in the log, and ends with the last handle', async () => {
  const atomic = (await b.store.open(context, at('/f'), both)).handle
  const shared = (await b.store.open(context, at('/f'), { ...both, mode: 'shared' })).handle
  await a.store.remove(context, at('/f'))
  const { length } = pair.log
  await b.store.writeHandle(context, atomic, bytes('V'), 0)
  await b.store.syncHandle(context, atomic)
  expect(await text(b, shared)).toBe('Value')
  await b.store.writeHandle(context, shared, bytes('s'), 'append')
  await b.store.syncHandle(context, shared)
  expect(await text(b, atomic)).toBe('Values')
  expect((await b.store.statHandle(context, atomic)).stat).toMatchObject({ size: 6, version: 3 })
  for (const handle of [atomic, shared]) await b.store.closeHandle(context, handle)
  expect(pair.log).toHaveLength(length)
})

it('may be large, and is collected after the last close', async () => {
  const { handle } = await b.store.open(context, at('/f'), both)
  await a.store.remove(context, at('/f'))
  const value = randomBytes(2 * limits.chunk_bytes)
  await b.store.writeHandle(context, handle, value, 0)
  await b.store.syncHandle(context, handle)
  const sweep = (): Promise<unknown> => collect({ store: b.files, pins: b.pins, roots: b.tree.blobRefs(), olderThanMs: -1_000 })
  await sweep()
  const read = await b.store.readHandle(context, handle, limits.chunk_bytes, 10)
  expect(Buffer.from(read.bytes)).toEqual(value.subarray(limits.chunk_bytes, limits.chunk_bytes + 10))
  await b.store.closeHandle(context, handle)
  await sweep()
  expect(await hashesIn(b.files)).toEqual([])
})

it('is kept so as well when the file was removed while the change was on its way', async () => {
  for (const mode of ['atomic', 'shared'] as const) {
    const path = at(`/${mode}`)
    await a.store.write(context, path, bytes('value'))
    const { handle } = await b.store.open(context, path, { ...both, mode })
    await b.store.writeHandle(context, handle, bytes('V'), 0)
    b.isLagging = true
    await a.store.remove(context, path)
    b.beforePropose = () => queueMicrotask(() => b.catchUp())
    await b.store.syncHandle(context, handle)
    expect(await text(b, handle)).toBe('Value')
    await b.store.closeHandle(context, handle)
    b.isLagging = false
    b.catchUp()
    await expect(a.store.stat(context, path)).rejects.toMatchObject({ kind: 'not_found' })
  }
})
