/** Chunks of large values between peers. */
import { afterEach, describe, expect, it } from 'vitest'
import { startProxy } from '../faults/proxy.ts'
import { closeNodes, hashOf, introduce, startNode } from './nodes.ts'
import type { TestNode } from './nodes.ts'

afterEach(closeNodes)

const made = Array.from({ length: 40 }, (_, i) => Buffer.alloc(256 * 1024 - i, i + 1))

async function three(): Promise<TestNode[]> {
  const nodes = [await startNode('n1.a'), await startNode('n2.b'), await startNode('n3.c')]
  introduce(...nodes)
  return nodes
}

describe('chunks between peers', () => {
  it('are pushed where they are missing, and are there when the push is over', async () => {
    const [a, b] = (await three()) as [TestNode, TestNode]
    for (const bytes of made.slice(0, 20)) b.chunks.set(hashOf(bytes), bytes)
    for (const bytes of made) a.chunks.set(hashOf(bytes), bytes)
    const proxy = await startProxy(b.peer.address)
    a.addresses.set('n2.b', proxy.address)
    // Half of them with their bytes, the others are read from a's own.
    await a.peer.pushChunks(
      'n2.b',
      made.map((bytes, i) => ({ hash: hashOf(bytes), bytes: i % 2 === 0 ? bytes : undefined })),
    )
    expect([...b.chunks.keys()].sort()).toEqual(made.map(hashOf).sort())
    for (const bytes of made) expect(Buffer.compare(b.chunks.get(hashOf(bytes))!, bytes)).toBe(0)
    expect(proxy.passed.toTarget).toBeLessThan(21 * 256 * 1024)
    await proxy.close()
  })

  it('are refused when they are not what they are called', async () => {
    const [a, b] = (await three()) as [TestNode, TestNode]
    const push = a.peer.pushChunks('n2.b', [{ hash: hashOf(made[0]!), bytes: made[1] }])
    await expect(push).rejects.toMatchObject({ kind: 'invalid' })
    const large = Buffer.alloc(256 * 1024 + 1)
    await expect(a.peer.pushChunks('n2.b', [{ hash: hashOf(large), bytes: large }])).rejects.toMatchObject({ kind: 'invalid' })
    expect(b.chunks.size).toBe(0)
  })

  it('are fetched from the first peer that has the right bytes', async () => {
    const [a, b, c] = (await three()) as [TestNode, TestNode, TestNode]
    const hash = hashOf(made[3]!)
    await expect(a.peer.fetchChunk(hash, ['n2.b', 'n3.c'])).rejects.toMatchObject({
      kind: 'not_found',
      message: expect.stringMatching(/n2\.b.*n3\.c/) as string,
    })
    await expect(a.peer.fetchChunk(hash, ['n2.b', 'n9.gone'])).rejects.toMatchObject({ kind: 'unavailable' })
    b.chunks.set(hash, Buffer.from('damaged'))
    c.chunks.set(hash, made[3]!)
    expect(Buffer.compare(await a.peer.fetchChunk(hash, ['n9.gone', 'n2.b', 'n3.c']), made[3]!)).toBe(0)
    await expect(a.peer.fetchChunk(hash, [])).rejects.toMatchObject({ kind: 'unavailable' })
  })

  it('fail with the peer', async () => {
    const [a, b] = (await three()) as [TestNode, TestNode]
    await b.close()
    await expect(a.peer.pushChunks('n2.b', [{ hash: hashOf(made[0]!), bytes: made[0] }])).rejects.toMatchObject({ kind: 'unavailable' })
  })

  it('close their connection when nobody used it for long', async () => {
    const a = await startNode('n1.a', { limits: { peer_bulk_idle_ms: 30, peer_tick_ms: 5 } })
    const b = await startNode('n2.b')
    introduce(a, b)
    await a.peer.pushChunks('n2.b', [{ hash: hashOf(made[0]!), bytes: made[0] }])
    while (b.peer.status().connections > 0) await new Promise(setImmediate)
    await a.peer.pushChunks('n2.b', [{ hash: hashOf(made[1]!), bytes: made[1] }])
    expect(b.chunks.size).toBe(2)
  })
})
