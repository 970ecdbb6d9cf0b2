/**
 * A history is linearizable when its parts are, where the parts share no file (Herlihy & Wing's locality; P-compositionality of
 * Horn & Kroening). A file is a part; files that one transaction looks at or changes are one part together.
 */
import { keysOf } from './history.ts'
import type { Key, Operation } from './history.ts'

export interface Part {
  readonly keys: readonly Key[]
  readonly operations: readonly Operation[]
}

/** Stale reads promise less and are not part of it; reads that were not answered say nothing. */
export function partsOf(operations: readonly Operation[]): Part[] {
  const roots = new Map<Key, Key>()
  const rootOf = (key: Key): Key => {
    const above = roots.get(key) ?? key
    if (above === key) return key
    const root = rootOf(above)
    roots.set(key, root)
    return root
  }
  const strict = operations.filter(({ request, result }) => request.do !== 'stale' && (request.do !== 'read' || result !== undefined))
  for (const { request } of strict) {
    const [first, ...others] = keysOf(request)
    if (first === undefined) continue
    roots.set(first, rootOf(first))
    for (const other of others) roots.set(rootOf(other), rootOf(first))
  }
  const parts = new Map<Key, { keys: Set<Key>; operations: Operation[] }>()
  for (const operation of strict) {
    const keys = keysOf(operation.request)
    if (keys[0] === undefined) continue
    const root = rootOf(keys[0])
    const part = parts.get(root) ?? { keys: new Set(), operations: [] }
    for (const key of keys) part.keys.add(key)
    part.operations.push(operation)
    parts.set(root, part)
  }
  return [...parts.values()].map(({ keys, operations: own }) => ({ keys: [...keys], operations: own }))
}
