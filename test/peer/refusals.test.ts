/** Who is not let in, and what they are told. */
import { afterEach, describe, expect, it } from 'vitest'
import { closeNodes, connected, introduce, startNode } from './nodes.ts'
import type { NodeChanges } from './nodes.ts'

afterEach(closeNodes)

const item = { kind: 'beat', life: 1 } as const

/** Why a is not connected to b. */
async function refusal(a: NodeChanges, b: NodeChanges, means = 'n2.b'): Promise<string> {
  const dialler = await startNode('n1.a', a)
  const listener = await startNode('n2.b', b)
  dialler.addresses.set(means, listener.peer.address)
  dialler.peer.send(means, item)
  await dialler.until(() => dialler.events.some(({ event }) => event === 'unreachable'))
  expect(dialler.lost).toEqual([])
  expect(listener.received).toEqual([])
  expect(dialler.peer.status().peers[0]!.isHeard).toBe(false)
  return dialler.peer.status().peers[0]!.lastError
}

describe('peers refuse', () => {
  it('a node of another cluster, naming both', async () => {
    expect(await refusal({ cluster: 'c2' }, {})).toMatch(/n1\.a is of cluster c2, n2\.b of cluster c1/)
  })

  it('who means a node that was replaced', async () => {
    expect(await refusal({}, {}, 'n2.old')).toMatch(/n1\.a means n2\.old, but n2\.b is here/)
  })

  it('who does not know the secret, on either side', async () => {
    const listener = await startNode('n2.b', { secret: 'another' })
    const a = await startNode('n1.a')
    introduce(a, listener)
    await expect(connected(a, listener)).rejects.toMatchObject({
      kind: 'unavailable',
      message: expect.stringMatching(/n2\.b does not know the secret/) as string,
    })
    await expect(a.peer.call(listener.peer.address, 'who', new Uint8Array(0))).rejects.toMatchObject({ kind: 'unauthenticated' })
  })

  it('versions without a common one; one release apart is fine', async () => {
    expect(await refusal({ versions: { min: 3, max: 4 } }, { versions: { min: 1, max: 2 } })).toMatch(
      /n1\.a speaks versions 3 to 4, n2\.b 1 to 2: they have none in common/,
    )
    await closeNodes()
    const a = await startNode('n1.a', { versions: { min: 1, max: 2 }, features: ['of a later release'] })
    const b = await startNode('n2.b', { versions: { min: 2, max: 3 } })
    introduce(a, b)
    await connected(a, b)
    await connected(b, a)
    expect(a.peer.status().peers[0]!.version).toBe(2)
    expect(b.peer.status().peers[0]!.version).toBe(2)
  })

  it('the same again without a word, until something changes', async () => {
    const a = await startNode('n1.a', { cluster: 'c2', limits: { peer_backoff_ms_max: 20 } })
    const b = await startNode('n2.b')
    introduce(a, b)
    a.peer.send('n2.b', item)
    while (b.peer.status().refused < 5) await new Promise(setImmediate)
    expect(b.events.length).toBe(1)
    expect(b.events[0]).toMatchObject({ event: 'refused', error: { kind: 'denied' } })
    expect(a.events.length).toBe(1)
  })

  it('to listen beyond loopback without TLS, and anywhere with neither TLS nor a secret', async () => {
    await expect(startNode('n1.a', { listen: { host: '0.0.0.0', port: 0 } })).rejects.toMatchObject({ kind: 'invalid', op: 'peer.listen' })
    await expect(startNode('n1.a', { secret: '' })).rejects.toMatchObject({ kind: 'invalid', op: 'peer.listen' })
    const a = await startNode('n1.a')
    await expect(a.peer.call('192.0.2.1:9590', 'who', new Uint8Array(0))).rejects.toMatchObject({ kind: 'invalid' })
    const [, port] = a.peer.address.split(':')
    await expect(startNode('n2.b', { listen: { host: '127.0.0.1', port: Number(port) } })).rejects.toMatchObject({ kind: 'unavailable' })
  })
})
