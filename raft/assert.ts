/** Assertions of the core. They stay on: a core that finds itself wrong stops, it does not go on. */

export function assert(holds: boolean, invariant: string): asserts holds {
  if (!holds) throw new Error(`raft: broken invariant: ${invariant}`)
}
