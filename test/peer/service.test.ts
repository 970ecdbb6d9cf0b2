/** The service between nodes: items, requests and calls over real connections. */
import { afterEach, describe, expect, it } from 'vitest'
import { NineError } from '../../namespace/errors.ts'
import type { PeerItem } from '../../raft/driver/ports.ts'
import { closeNodes, connected, introduce, startNode } from './nodes.ts'

afterEach(closeNodes)

const beat = (life: number): PeerItem => ({ kind: 'beat', life })

describe('peers', () => {
  it('bring items in order', async () => {
    const a = await startNode('n1.a')
    const b = await startNode('n2.b')
    introduce(a, b)
    await connected(a, b)
    for (let life = 1; life <= 500; life++) a.peer.send('n2.b', beat(life))
    await b.until(() => b.received.length === 500)
    expect(b.received.map(({ item }) => (item as { life: number }).life)).toEqual(Array.from({ length: 500 }, (_, i) => i + 1))
    expect(b.received[0]!.from).toBe('n1.a')
  })

  it('answer requests, and carry failures as they were', async () => {
    const a = await startNode('n1.a')
    const b = await startNode('n2.b', {
      onAsk: async (from, group, verb, body) => {
        if (verb === 'fail') throw new NineError({ kind: 'conflict', op: 'test.ask', message: 'no', outcome: 'unknown' })
        return Buffer.from(`${from} ${group} ${verb} ${Buffer.from(body).toString()}`)
      },
    })
    introduce(a, b)
    expect(Buffer.from(await a.peer.request('n2.b', 7, 'propose', Buffer.from('x'))).toString()).toBe('n1.a 7 propose x')
    await expect(a.peer.request('n2.b', 7, 'fail', Buffer.from('x'))).rejects.toMatchObject({ kind: 'conflict', outcome: 'unknown', message: 'no' })
  })

  it('answer calls of who is no member', async () => {
    const a = await startNode('n1.a', { cluster: '' })
    const b = await startNode('n2.b', { onCalled: async (from, verb) => Buffer.from(`${from.member} ${from.cluster} ${verb} ${from.address}`) })
    const answer = await a.peer.call(b.peer.address, 'who', new Uint8Array(0))
    expect(Buffer.from(answer).toString()).toBe(`n1.a  who ${a.peer.address}`)
  })
})
