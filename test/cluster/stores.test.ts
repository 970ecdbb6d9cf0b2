/** Stores of a cluster: two nodes on one sys store in memory, each serving what it sees. */
import { afterEach, describe, expect, it } from 'vitest'
import { contextFor } from '../../namespace/context.ts'
import { NineError } from '../../namespace/errors.ts'
import type { FileServer } from '../../namespace/file-server.ts'
import { MemoryServer } from '../../namespace/memory/memory-server.ts'
import type { ClusterStores, GroupControl, Standing, StoreRow } from '../../services/cluster/ports.ts'
import { StoreRegistry } from '../../services/cluster/stores.ts'

class Served implements ClusterStores {
  readonly rows = new Map<string, StoreRow>()

  names = (): Iterable<string> => this.rows.keys()
  hasStore = (name: string): boolean => this.rows.has(name)
  store = (): FileServer => new MemoryServer({ owner: 'ann' })
  group = (name: string): GroupControl => ({ id: this.rows.get(name)!.group }) as GroupControl
  standing = (): Standing => ({ leader: 'n1.a', leaderAtHand: 'n1.a', isLeaderless: false, reach: () => '', leaderlessness: () => '' })
  filling = (): undefined => undefined

  adopt = async (row: StoreRow): Promise<void> => {
    for (const known of this.rows.values()) {
      if (known.group !== row.group || known.name === row.name) continue
      throw new NineError({ kind: 'exists', op: 'test.adopt', message: `group ${row.group} is ${known.name}` })
    }
    this.rows.set(row.name, row)
  }
}

let ids = 0
const open: StoreRegistry[] = []

function node(sys: FileServer, following = true): { registry: StoreRegistry; served: Served } {
  const served = new Served()
  const registry = new StoreRegistry({
    sys,
    context: () => contextFor({ name: 'ann', groups: [] }, 20_000),
    stores: served,
    id: () => `id${++ids}`,
    voters: () => ['n1.a', 'n2.b'],
    warn: (error) => {
      throw error
    },
  })
  if (following) registry.start()
  open.push(registry)
  return { registry, served }
}

afterEach(async () => {
  await Promise.all(open.splice(0).map((registry) => registry.close()))
})

describe('the stores of a cluster', () => {
  it('are made once, under one number and id on all nodes', async () => {
    const sys = new MemoryServer({ owner: 'ann' })
    const [a, b] = [node(sys), node(sys)]
    const names = Array.from({ length: 20 }, (_, i) => `svc.s${i}`)
    await Promise.all(names.flatMap((name) => [a.registry.open(name, 'ann'), b.registry.open(name, 'bob')]))
    expect([...a.served.rows.keys()].sort()).toEqual([...names].sort())
    for (const name of names) expect(b.served.rows.get(name)).toEqual(a.served.rows.get(name))
    const numbers = [...a.served.rows.values()].map(({ group }) => group)
    expect(new Set(numbers).size).toBe(names.length)
    expect(a.served.rows.get('svc.s0')!.voters).toEqual(['n1.a', 'n2.b'])
  })

  it('are there for a node that starts later', async () => {
    const sys = new MemoryServer({ owner: 'ann' })
    const first = node(sys)
    const rows = [{ name: 'data', group: 7, id: 'x', incarnation: 'y', owner: 'ann', voters: ['n1.a'] }]
    await first.registry.found(rows)
    await first.registry.found(rows)
    await first.registry.open('svc.a', 'ann')
    const later = node(sys)
    await later.registry.open('svc.b', 'ann')
    await later.registry.open('data', 'ann')
    expect(later.served.rows.get('data')).toEqual(rows[0])
    expect(later.served.rows.get('svc.a')).toEqual(first.served.rows.get('svc.a'))
    expect(new Set([...later.served.rows.values()].map(({ group }) => group)).size).toBe(3)
    expect((await first.registry.rows()).map(({ name }) => name)).toEqual(['data', 'svc.a', 'svc.b'])
  })

  it('that this node does not serve in time are said to be made', async () => {
    const sys = new MemoryServer({ owner: 'ann' })
    const { registry } = node(sys, false)
    const opening = registry.open('svc.slow', 'ann')
    await expect(Promise.race([opening, registry.close().then(() => opening)])).rejects.toMatchObject({
      kind: 'deadline',
      message: 'store svc.slow was made, but this node does not serve it yet',
    })
  })
})
