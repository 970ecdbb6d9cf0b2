/** The stores and groups of an engine that opened its folder as a member. */
import type { Engine } from '../../storage/engine/engine.ts'
import type { Replica } from '../../storage/replica/replica.ts'
import type { ClusterStores } from './ports.ts'

export function engineStores(engine: Engine): ClusterStores {
  const member = engine.member!
  const replicas = new Map<string, Replica>()
  const replica = (name: string): Replica => {
    const known = replicas.get(name)
    if (known !== undefined) return known
    const { group } = engine.rows().find((row) => row.name === engine.store(name).name)!
    const found = member.replica(group)!
    replicas.set(name, found)
    return found
  }
  return {
    names: () => engine.stores().map(({ name }) => name),
    hasStore: (name) => engine.hasStore(name),
    store: (name) => engine.store(name),
    group: (name) => replica(name).group,
    standing: (name) => replica(name).standing,
    filling: (name) => member.filling(replica(name).group.id),
    adopt: async (row) => void (await engine.openStore(row)),
  }
}
