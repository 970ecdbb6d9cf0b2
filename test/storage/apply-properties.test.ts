import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { decodeEntry, encodeEntry } from '../../storage/apply/entry.ts'
import { Machine, type Applied } from '../../storage/apply/machine.ts'
import { pathOf } from '../../storage/apply/walk.ts'
import { rootIno, type Entry, type NodeRecord } from '../../storage/model.ts'
import { someCommand } from './apply-commands.ts'
import { entryOf, owner, textOf, type Caller } from './apply-machine.ts'
import { MemoryTree } from './memory-tree.ts'

const someCaller: fc.Arbitrary<Caller> = fc.record({
  actor: fc.constantFrom(owner, owner, owner, 'alice', 'bob'),
  groups: fc.constantFrom([], ['staff']),
  client: fc.option(fc.record({ id: fc.constantFrom('c', 'd'), born: fc.constant(1), settled: fc.nat({ max: 4 }) }), { nil: undefined }),
  seq: fc.integer({ min: 1, max: 12 }),
})

const someEntries: fc.Arbitrary<Entry[]> = fc
  .array(fc.tuple(someCommand, someCaller), { minLength: 1, maxLength: 60 })
  .map((steps) => steps.map(([command, caller], i) => entryOf(i + 1, command, caller)))

interface Run {
  readonly tree: MemoryTree
  readonly applied: Applied[]
  readonly state: Map<string, Uint8Array | undefined>
}

/** Apply all; with `restartAt`, the machine is saved and taken up again by another before that entry. */
function run(entries: readonly Entry[], restartAt = -1): Run {
  const tree = new MemoryTree(owner)
  const state = new Map<string, Uint8Array | undefined>()
  let machine = new Machine({ owner })
  const save = (): void => {
    for (const [key, value] of machine.exportChanged()) state.set(key, value)
    machine.exportSaved()
  }
  const applied = entries.map((entry, i) => {
    if (i % 7 === 3) save()
    if (i === restartAt) {
      save()
      machine = new Machine({ owner })
      machine.import(state)
    }
    return machine.apply(tree, entry)
  })
  save()
  return { tree, applied, state: new Map([...state].filter(([, value]) => value !== undefined).sort(([a], [b]) => (a < b ? -1 : 1))) }
}

function textOfRun({ tree, applied, state }: Run): string {
  return textOf([[...tree.nodes], [...tree.entries], tree.nextIno, applied, state])
}

describe('apply', () => {
  it('gives the same for the same entries: again, read back from the log, and taken up in the middle', () => {
    fc.assert(
      fc.property(someEntries, fc.nat({ max: 60 }), (entries, restartAt) => {
        const expected = textOfRun(run(entries))
        expect(textOfRun(run(entries))).toBe(expected)
        expect(textOfRun(run(entries.map((entry) => decodeEntry(new Uint8Array(encodeEntry(entry))))))).toBe(expected)
        expect(textOfRun(run(entries, restartAt))).toBe(expected)
      }),
      { numRuns: 300 },
    )
  })

  it('reaches deep into every command with random ones', () => {
    const seen = new Set<string>()
    fc.assert(
      fc.property(someEntries, (entries) => {
        run(entries).applied.forEach(({ outcome }, i) => seen.add(`${entries[i]!.command.op} ${outcome.kind}`))
      }),
      { numRuns: 150, seed: 7 },
    )
    for (const op of ['write', 'create', 'mkdir', 'symlink', 'remove', 'rename', 'setStat', 'setRights', 'endLease']) {
      expect([...seen]).toContain(`${op} mutation`)
      expect([...seen]).toContain(`${op} error`)
    }
    expect([...seen]).toEqual(expect.arrayContaining(['txn txn', 'txn error', 'write needs_chunks', 'grantLease lease']))
  })

  it('keeps a tree a tree, versions growing, revisions dense, events true', () => {
    fc.assert(
      fc.property(someEntries, (entries) => {
        const tree = new MemoryTree(owner)
        const machine = new Machine({ owner })
        for (const entry of entries) step(tree, machine, entry)
      }),
      { numRuns: 300 },
    )
  })
})

function step(tree: MemoryTree, machine: Machine, entry: Entry): void {
  const before = new Map(tree.nodes)
  const paths = pathsOf(tree)
  const { outcome, revision } = machine.apply(tree, entry)
  expect(tree.isOpen).toBe(false)
  checkTree(tree)
  if (revision === undefined) {
    expect(new Map(tree.nodes)).toEqual(before)
    return
  }
  expect(['mutation', 'txn']).toContain(outcome.kind)
  expect(revision.images.length).toBeGreaterThan(0)
  for (const image of revision.images) {
    expect(image.after.since).toBe(revision.revision)
    if (image.kind === 'node') checkNode(image.after, before.get(image.after.ino), revision.revision)
  }
  // What the events tell, applied to the paths there were, gives the paths there are.
  for (const { type, path, from, node } of revision.events) {
    const moved = [...paths].filter(([at]) => at === (from ?? path) || at.startsWith(`${from ?? path}/`))
    if (type === 'create') {
      expect(moved).toEqual([])
      paths.set(path, node.ino)
    } else if (type === 'change') {
      expect(paths.get(path)).toBe(node.ino)
    } else {
      expect(paths.get(from ?? path)).toBe(node.ino)
      for (const [at] of moved) paths.delete(at)
      if (type === 'rename') for (const [at, ino] of moved) paths.set(path + at.slice(from!.length), ino)
    }
  }
  expect(new Map([...paths].sort())).toEqual(new Map([...pathsOf(tree)].sort()))
}

function checkNode(after: NodeRecord, before: NodeRecord | undefined, revision: number): void {
  if (before === undefined) {
    expect(after.createdRevision).toBe(revision)
    return
  }
  expect(after.version).toBeGreaterThanOrEqual(before.version)
  expect(after.createdRevision).toBe(before.createdRevision)
  expect(after.createdAt).toBe(before.createdAt)
  expect(after.revision).toBe(after.version === before.version ? before.revision : revision)
  expect(after.kind).toBe(before.kind)
}

/** Each node that can be reached has one entry, in a directory, and knows it. */
function checkTree(tree: MemoryTree): void {
  const entries = new Map<number, string>()
  for (const [parent, names] of tree.entries) {
    for (const { ino, name } of names.values()) {
      if (ino === 0) continue
      expect(entries.has(ino)).toBe(false)
      entries.set(ino, name)
      expect(tree.node(ino)).toMatchObject({ parent, name })
      expect(tree.node(parent)!.kind).toBe('directory')
    }
  }
  expect(entries.has(rootIno)).toBe(false)
  for (const node of tree.nodes.values()) {
    let at = node
    for (let depth = 0; at.ino !== rootIno; depth++) {
      expect(depth).toBeLessThan(tree.nodes.size) // no cycle
      at = tree.node(at.parent)!
    }
  }
}

function pathsOf(tree: MemoryTree): Map<string, number> {
  const paths = new Map<string, number>()
  for (const node of tree.nodes.values()) {
    const path = pathOf(tree, node)
    if (path !== undefined) paths.set(path, node.ino)
  }
  return paths
}
