/** What shared handles wrote takes effect once, also where nobody knows for a while what became of it. */
import { afterEach, describe, expect, it } from 'vitest'
import type { Context } from '../../namespace/context.ts'
import { parsePath } from '../../namespace/path.ts'
import { startCluster, type LocalCluster, type LocalNode } from './cluster.ts'

const path = parsePath('/f')
const owner = (): Context => ({ principal: { name: 'glenda', groups: [] }, deadline: performance.now() + 20_000 })

let cluster: LocalCluster
afterEach(() => cluster.close())

async function read(node: LocalNode): Promise<string> {
  return Buffer.from((await node.store.read(owner(), path)).bytes).toString()
}

/** What was written to the handle is published. */
async function healed(node: LocalNode, handle: number): Promise<void> {
  cluster.heal()
  while (node.engine!.member!.replica(1)!.leader === null) await new Promise((resolve) => setTimeout(resolve, 5))
  await node.store.syncHandle(owner(), handle).catch(() => undefined) // It may tell of a try before.
  await node.store.syncHandle(owner(), handle)
}

/** A file, and its handle at the leader. */
async function opened(content: Buffer): Promise<{ old: LocalNode; others: LocalNode[]; handle: number }> {
  cluster = await startCluster()
  const old = await cluster.leader()
  await old.store.write(owner(), path, content)
  const { handle } = await old.store.open(owner(), path, { read: true, write: true, mode: 'shared' })
  return { old, others: [...cluster.nodes.values()].filter((node) => node !== old), handle }
}

describe.each([
  ['a small file', 0],
  ['a large one', 200_000],
])('%s that a shared handle changes', (_, size) => {
  it('is not changed again over what another wrote, by a try of which the outcome was unknown', async () => {
    const { old, others, handle } = await opened(Buffer.alloc(size, 'o'))
    for (const { id } of others) cluster.cut(id, old.id) // What it sends arrives; it hears nobody.
    await old.store.writeHandle(owner(), handle, Buffer.from('A'), 0)
    await expect(old.store.syncHandle(owner(), handle)).rejects.toMatchObject({ kind: 'unavailable', outcome: 'unknown' })
    const next = await cluster.leader(old.id)
    expect((await read(next)).slice(0, 1)).toBe('A')
    await next.store.write(owner(), path, Buffer.from('B'))
    // The layer that may have happened is done: this is another change.
    await old.store.writeHandle(owner(), handle, Buffer.from('C'), 1)
    await healed(old, handle)
    for (const node of cluster.nodes.values()) expect(await read(node)).toBe('BC')
  })

  it('is changed by a later try where no earlier one arrived', async () => {
    const { old, handle } = await opened(Buffer.alloc(size, 'o'))
    cluster.isolate(old.id)
    await old.store.writeHandle(owner(), handle, Buffer.from('A'), 0)
    await expect(old.store.syncHandle(owner(), handle)).rejects.toMatchObject({ kind: 'unavailable' })
    await healed(old, handle)
    for (const node of cluster.nodes.values()) expect((await read(node)).slice(0, 2)).toBe(size === 0 ? 'A' : 'Ao')
  })
})
