/** The service between nodes: items, requests and calls over real connections. */
import { afterEach, describe, expect, it } from 'vitest'
import { NineError } from '../../namespace/errors.ts'
import type { PeerItem } from '../../raft/driver/ports.ts'
import type { Append } from '../../raft/model.ts'
import { startProxy } from '../faults/proxy.ts'
import { closeNodes, connected, introduce, startNode } from './nodes.ts'

afterEach(closeNodes)

const beat = (life: number): PeerItem => ({ kind: 'beat', life })
const nothing = new Uint8Array(0)

function appendOf(from: string, to: string, sizes: readonly number[]): PeerItem {
  const entries = sizes.map((size, i) => ({ index: 11 + i, term: 3, data: Buffer.alloc(size, i), configuration: null }))
  return { kind: 'raft', group: 5, message: { kind: 'append', from, to, term: 3, prevIndex: 10, prevTerm: 2, commit: 9, entries } }
}

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

  it('drop what cannot go and never call back within the call', async () => {
    const a = await startNode('n1.a')
    a.peer.send('n2.b', beat(1))
    a.peer.send('n2.b', beat(2))
    expect(a.lost).toEqual([])
    expect(a.peer.status().peers).toMatchObject([
      { member: 'n2.b', droppedItems: 2, state: 'waiting', lastError: 'its address is not known' },
    ])
  })

  it('send apart what does not fit one message, and say what fits none', async () => {
    const limits = { peer_message_bytes_max: 100_000 }
    const a = await startNode('n1.a', { limits })
    const b = await startNode('n2.b', { limits })
    introduce(a, b)
    await connected(a, b)
    const sizes = [30_000, 60_000, 20_000, 90_000, 5, 70_000]
    a.peer.send('n2.b', beat(1))
    a.peer.send('n2.b', appendOf('n1.a', 'n2.b', sizes))
    a.peer.send('n2.b', appendOf('n1.a', 'n2.b', [120_000]))
    a.peer.send('n2.b', beat(2))
    await b.until(() => b.received.some(({ item }) => item.kind === 'beat' && item.life === 2))
    const appends = b.received.flatMap(({ item }) => (item.kind === 'raft' ? [item.message as Append] : []))
    expect(appends.length).toBeGreaterThan(2)
    expect(appends.flatMap(({ entries }) => entries.map(({ index, data }) => [index, data!.length]))).toEqual(
      sizes.map((size, i) => [11 + i, size]),
    )
    let last = { index: 10, term: 2 }
    for (const { prevIndex, prevTerm, entries } of appends) {
      expect({ index: prevIndex, term: prevTerm }).toEqual(last)
      last = { index: entries.at(-1)!.index, term: 3 }
    }
    expect(a.events.filter(({ event }) => event === 'fault')).toMatchObject([{ peer: 'n2.b', error: { kind: 'too_large' } }])
    expect(a.peer.status().peers[0]).toMatchObject({ droppedItems: 1, state: 'open' })
  })

  it('answer requests, and carry failures as they were', async () => {
    const a = await startNode('n1.a')
    const b = await startNode('n2.b', {
      onAsk: async (from, group, verb, body) => {
        if (verb === 'fail') throw new NineError({ kind: 'conflict', op: 'test.ask', message: 'no', outcome: 'unknown' })
        if (verb === 'break') throw new TypeError('a defect')
        return Buffer.from(`${from} ${group} ${verb} ${Buffer.from(body).toString()}`)
      },
    })
    introduce(a, b)
    expect(Buffer.from(await a.peer.request('n2.b', 7, 'propose', Buffer.from('x'))).toString()).toBe('n1.a 7 propose x')
    const fails = a.peer.request('n2.b', 7, 'fail', nothing)
    await expect(fails).rejects.toMatchObject({ kind: 'conflict', outcome: 'unknown', message: 'no' })
    await expect(a.peer.request('n2.b', 7, 'break', nothing)).rejects.toMatchObject({ kind: 'internal', message: 'a defect' })
  })

  it('answer calls of who is no member', async () => {
    const a = await startNode('n1.a', { cluster: '' })
    const b = await startNode('n2.b', {
      onCalled: async (from, verb) => Buffer.from(`${from.member} ${from.cluster} ${verb} ${from.address}`),
    })
    const answer = await a.peer.call(b.peer.address, 'who', nothing)
    expect(Buffer.from(answer).toString()).toBe(`n1.a  who ${a.peer.address}`)
    const nobody = await startNode('n3.c')
    await nobody.close()
    await expect(a.peer.call(nobody.peer.address, 'who', nothing)).rejects.toMatchObject({ kind: 'unavailable', outcome: 'none' })
  })

  it('become members of a cluster when it is founded', async () => {
    const a = await startNode('n1.a', { cluster: '' })
    const b = await startNode('n2.b', { cluster: '' })
    introduce(a, b)
    await expect(connected(a, b)).rejects.toMatchObject({ kind: 'unavailable', outcome: 'none' })
    a.peer.enter('c9')
    b.peer.enter('c9')
    await a.until(() => a.events.some(({ event }) => event === 'connected'))
    await connected(a, b)
  })

  it('tell apart what never left from what may have happened', async () => {
    const a = await startNode('n1.a')
    await expect(a.peer.request('n2.b', 1, 'propose', nothing)).rejects.toMatchObject({ kind: 'unavailable', outcome: 'none' })
    let asked = 0
    const b = await startNode('n2.b', {
      onAsk: (_from, _group, verb) => {
        if (verb === 'hello') return Promise.resolve(nothing)
        asked++
        b.lost.push({ peer: 'asked', gone: false })
        return new Promise(() => undefined)
      },
    })
    const proxy = await startProxy(b.peer.address)
    const c = await startNode('n3.c')
    c.addresses.set('n2.b', proxy.address)
    await connected(c, b)
    const sent = c.peer.request('n2.b', 1, 'propose', nothing)
    const told = sent.catch((error: unknown) => error)
    while (asked === 0) await new Promise(setImmediate)
    const unsent = c.peer.request('n2.b', 1, 'propose', nothing).catch((error: unknown) => error)
    c.peer.forget('n2.b')
    expect(await unsent).toMatchObject({ kind: 'unavailable', outcome: 'none' })
    expect(await told).toMatchObject({ kind: 'unavailable', outcome: 'unknown' })
    await proxy.close()
  })

  it('end requests at their deadline and by their signal', async () => {
    const a = await startNode('n1.a', { limits: { peer_tick_ms: 5 } })
    const b = await startNode('n2.b', {
      onAsk: (_from, _group, verb) => (verb === 'hello' ? Promise.resolve(nothing) : new Promise(() => undefined)),
    })
    introduce(a, b)
    await connected(a, b)
    const late = a.peer.request('n2.b', 1, 'wait', nothing, { deadline: performance.now() + 20 })
    await expect(late).rejects.toMatchObject({ kind: 'deadline', outcome: 'unknown' })
    await expect(a.peer.request('n2.b', 1, 'wait', nothing, { deadline: performance.now() - 1 })).rejects.toMatchObject({
      kind: 'deadline',
      outcome: 'none',
    })
    const controller = new AbortController()
    const unsent = a.peer.request('n2.b', 1, 'wait', nothing, { signal: controller.signal })
    controller.abort()
    await expect(unsent).rejects.toMatchObject({ kind: 'deadline', outcome: 'none' })
    await expect(a.peer.request('n2.b', 1, 'wait', nothing, { signal: controller.signal })).rejects.toMatchObject({ kind: 'deadline' })
  })

  it('bound requests without an answer, on either side', async () => {
    const wait = (verb: string): Promise<Uint8Array> => (verb === 'hello' ? Promise.resolve(nothing) : new Promise(() => undefined))
    const b = await startNode('n2.b', { onAsk: (_from, _group, verb) => wait(verb), limits: { peer_requests_max: 4 } })
    const a = await startNode('n1.a', { limits: { peer_requests_max: 6, peer_message_bytes_max: 50_000 } })
    introduce(a, b)
    await connected(a, b)
    const asked = Array.from({ length: 7 }, () => a.peer.request('n2.b', 1, 'wait', nothing))
    const refused: NineError[] = []
    for (const one of asked) one.catch((error: NineError) => refused.push(error))
    await expect(asked[6]).rejects.toMatchObject({ kind: 'overloaded', outcome: 'none' })
    await expect(asked[4]).rejects.toMatchObject({ kind: 'overloaded' })
    await expect(asked[5]).rejects.toMatchObject({ kind: 'overloaded' })
    expect(refused.length).toBe(3)
    await expect(a.peer.request('n2.b', 1, 'wait', Buffer.alloc(60_000))).rejects.toMatchObject({ kind: 'too_large', outcome: 'none' })
  })

  it('say everything that comes in one turn in as few writes as there are turns', async () => {
    const b = await startNode('n2.b')
    const turns: number[] = []
    let turn = 0
    const a = await startNode('n1.a')
    introduce(a, b)
    const c = await startNode('n3.c', { inbound: { receive: () => turns.push(turn), peerLost: () => undefined } })
    a.addresses.set('n3.c', c.peer.address)
    await connected(a, c)
    const count = (): void => {
      turn++
      if (turns.length < 100) setImmediate(count)
    }
    for (let life = 0; life < 100; life++) a.peer.send('n3.c', beat(life))
    setImmediate(count)
    while (turns.length < 100) await new Promise(setImmediate)
    expect(new Set(turns).size).toBe(1)
  })

  it('go on when a part of the node throws: the connection ends, and comes back', async () => {
    const b = await startNode('n2.b', {
      inbound: {
        receive: () => {
          throw new TypeError('a defect of the driver')
        },
        peerLost: () => undefined,
      },
    })
    const a = await startNode('n1.a')
    introduce(a, b)
    await connected(a, b)
    a.peer.send('n2.b', beat(1))
    await a.until(() => a.lost.length === 1)
    expect(b.events).toMatchObject([{ event: 'fault', error: { message: 'a defect of the driver' } }])
    await a.until(() => a.events.filter(({ event }) => event === 'connected').length === 2)
    await connected(a, b)
  })

  it('are not dialled for ever after they were forgotten, though something was sent to them since', async () => {
    const a = await startNode('n1.a', { limits: { peer_unused_ms: 100, peer_tick_ms: 10, peer_backoff_ms_max: 40 } })
    const b = await startNode('n2.b')
    const c = await startNode('n3.c')
    introduce(a, b, c)
    await connected(a, b)
    const proxy = await startProxy(c.peer.address)
    a.addresses.set('n3.c', proxy.address)
    await connected(a, c)
    a.peer.forget('n3.c')
    await proxy.refuse()
    a.peer.send('n3.c', beat(1))
    await a.until(() => a.events.some(({ event, peer }) => event === 'unreachable' && peer === 'n3.c'))
    // Members that are sent to go on being dialled, and those that are up stay.
    await b.close()
    while (a.peer.status().peers.some(({ member }) => member === 'n3.c')) {
      a.peer.send('n2.b', beat(2))
      await new Promise(setImmediate)
    }
    expect(a.peer.status().peers).toMatchObject([{ member: 'n2.b' }])
    await proxy.resume()
    const { accepted } = proxy
    await connected(a, c)
    expect(proxy.accepted).toBe(accepted + 1)
    await proxy.close()
  })
})
