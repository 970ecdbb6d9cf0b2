/** A store on three nodes: what is written at one is read at each, whoever leads. */
import { afterEach, describe, expect, it } from 'vitest'
import { contextFor } from '../../namespace/context.ts'
import { parsePath } from '../../namespace/path.ts'
import { startCluster, type LocalCluster } from './cluster.ts'

let cluster: LocalCluster
afterEach(() => cluster.close())

const glenda = { name: 'glenda', groups: [] }
const text = (bytes: Uint8Array): string => Buffer.from(bytes).toString()

describe('a store on three nodes', () => {
  it('shows at every node what was acknowledged at any', async () => {
    cluster = await startCluster()
    for (const [i, at] of ['n1', 'n2', 'n3', 'n1', 'n2'].entries()) {
      await cluster.node(at).store.write(contextFor(glenda), parsePath('/file'), Buffer.from(`value ${i}`))
      for (const { store } of cluster.nodes.values()) {
        expect(text((await store.read(contextFor(glenda), parsePath('/file'))).bytes)).toBe(`value ${i}`)
      }
    }
  })

  it('goes on when the leader is gone, with everything acknowledged', async () => {
    cluster = await startCluster()
    const first = await cluster.leader()
    await first.store.write(contextFor(glenda), parsePath('/a'), Buffer.from('1'))
    await cluster.stop(first.id)
    const next = await cluster.leader()
    expect(next.id).not.toBe(first.id)
    await next.store.write(contextFor(glenda), parsePath('/b'), Buffer.from('2'))
    await cluster.start(first.id)
    expect(text((await first.store.read(contextFor(glenda), parsePath('/a'))).bytes)).toBe('1')
    expect(text((await first.store.read(contextFor(glenda), parsePath('/b'))).bytes)).toBe('2')
  })

  it('has all that was acknowledged after every node was stopped', async () => {
    cluster = await startCluster()
    for (let i = 0; i < 50; i++) await cluster.node('n2').store.write(contextFor(glenda), parsePath(`/f${i}`), Buffer.from(`${i}`))
    for (const id of ['n1', 'n2', 'n3']) await cluster.stop(id)
    for (const id of ['n1', 'n2', 'n3']) await cluster.start(id)
    for (let i = 0; i < 50; i++) {
      expect(text((await cluster.node('n3').store.read(contextFor(glenda), parsePath(`/f${i}`))).bytes)).toBe(`${i}`)
    }
  })
})

describe('a leader that is cut off', () => {
  it('serves no read, and what it was asked for happens once or not at all', async () => {
    cluster = await startCluster()
    const old = await cluster.leader()
    const path = parsePath('/count')
    await old.store.write(contextFor(glenda), path, Buffer.from('a'))
    cluster.isolate(old.id)
    const late = old.store.write(contextFor(glenda), path, Buffer.from('b'), { at: 'append' })
    const read = old.store.read(contextFor(glenda, 400), path)
    await expect(read).rejects.toMatchObject({ kind: 'deadline', outcome: 'none' })
    const next = await cluster.leader(old.id)
    await next.store.write(contextFor(glenda), path, Buffer.from('c'), { at: 'append' })
    cluster.heal()
    await late
    for (const { store } of cluster.nodes.values()) expect(text((await store.read(contextFor(glenda), path)).bytes)).toBe('acb')
  })

  it('answers a mutation that it cannot have agreed on with an unknown outcome', async () => {
    cluster = await startCluster()
    const old = await cluster.leader()
    cluster.isolate(old.id)
    const lost = old.store.write(contextFor(glenda, 300), parsePath('/x'), Buffer.from('b'))
    await expect(lost).rejects.toMatchObject({ kind: 'deadline', outcome: 'unknown' })
  })
})

describe('a client that asks again', () => {
  it('gets its first answer at another node, and the change happens once', async () => {
    cluster = await startCluster()
    const client = { id: 'c1', born: cluster.node('n1').engine!.clock.now(), settled: 0 }
    const path = parsePath('/log')
    const answers = []
    for (const id of ['n1', 'n2', 'n3', 'n1']) {
      const context = { ...contextFor(glenda), client, seq: 1 }
      answers.push(await cluster.node(id).store.write(context, path, Buffer.from('once'), { at: 'append' }))
    }
    expect(new Set(answers.map((answer) => answer.revision)).size).toBe(1)
    expect(text((await cluster.node('n2').store.read(contextFor(glenda), path)).bytes)).toBe('once')
  })
})
