/** The stores and groups of an engine that opened its folder as a member. */
import type { Engine } from '../../storage/engine/engine.ts'
import type { ClusterStores, GroupControl } from './ports.ts'

export function engineStores(engine: Engine): ClusterStores {
  const member = engine.member!
  const groups = new Map<string, GroupControl>()
  return {
    names: () => engine.stores().map(({ name }) => name),
    hasStore: (name) => engine.hasStore(name),
    store: (name) => engine.store(name),
    group: (name) => {
      const known = groups.get(name)
      if (known !== undefined) return known
      const { group: number } = engine.rows().find((row) => row.name === engine.store(name).name)!
      const { group } = member.replica(number)!
      groups.set(name, group)
      return group
    },
    adopt: async (row) => void (await engine.openStore(row)),
  }
}
