/** Collection takes away what no kept revision shows, and nothing else, whatever runs beside it. */
import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterEach, beforeEach, describe, expect, it } from 'vitest'
import { rootIno, type BlobRef, type Ino, type TreeTransaction } from '../../storage/model.ts'
import { loadSnapshot } from '../../storage/snapshot/load.ts'
import { openSource } from '../../storage/snapshot/files.ts'
import { writeSnapshotFile } from '../../storage/snapshot/write.ts'
import { openEnvironment, type Environment } from '../../storage/tree/environment.ts'
import { rowKey } from '../../storage/tree/rows.ts'
import type { Tree } from '../../storage/tree/tree.ts'
import { inline, record, revisionOf } from './tree-model.ts'

let dir: string
let environment: Environment
let tree: Tree

beforeEach(async () => {
  dir = mkdtempSync(join(tmpdir(), 'nine-collect-'))
  environment = await openEnvironment({ dir: join(dir, 'tree'), historyDir: join(dir, 'history'), mapBytes: 1024 * 1024 })
  // A segment a revision, so that history is compacted to whatever revision a test wants.
  tree = await environment.tree(7, { owner: 'ann', historySegmentBytes: 1 })
})

afterEach(async () => {
  await environment.close()
  rmSync(dir, { recursive: true, force: true })
})

/** One revision. */
function change(changes: (transaction: TreeTransaction) => void): number {
  const transaction = tree.begin(tree.revision + 1)
  changes(transaction)
  const { revision } = transaction
  tree.history.append(revisionOf(revision, transaction.commit()))
  return revision
}

function create(name: string): Ino {
  let ino = 0
  change((transaction) => {
    ino = transaction.nextIno()
    transaction.put(record({ ino, since: transaction.revision, name, content: inline(name) }))
    transaction.link(rootIno, name, ino)
  })
  return ino
}

function move(ino: Ino, to: string): number {
  return change((transaction) => {
    const node = transaction.node(ino)!
    transaction.unlink(rootIno, node.name)
    transaction.put({ ...node, since: transaction.revision, name: to })
    transaction.link(rootIno, to, ino)
  })
}

const remove = (name: string): number => change((transaction) => transaction.unlink(rootIno, name))
const save = (): Promise<void> => tree.checkpoint({ appliedIndex: tree.revision, revision: tree.revision, meta: [] })
const forget = (before: number): Promise<number> => tree.history.compact({ bytesMax: 0, olderThan: 0, keepFrom: before })

describe('a file that was moved and then removed', () => {
  it.each([
    ['elsewhere', ['b']],
    ['and back', ['b', 'a']],
  ])('%s is shown as long as history shows it under its last name', async (_, names) => {
    const ino = create('a')
    for (const name of names) move(ino, name)
    const last = names[names.length - 1]!
    const shown = create('other')
    remove(last)
    create('one more')
    await save()
    await forget(shown)
    expect(tree.history.floor).toBeGreaterThan(1)
    expect(tree.history.floor).toBeLessThanOrEqual(shown)
    await tree.collect(1000)
    const past = tree.at(shown)
    expect(past.child(rootIno, last)).toBe(ino)
    expect(past.node(ino)).toMatchObject({ name: last })
    await forget(Infinity)
    await tree.collect(1000)
    expect(tree.newest.node(ino)).toBeUndefined()
  })

  it('goes although its name was taken again, and its bytes were changed after', async () => {
    const ino = create('a')
    remove('a')
    create('a')
    change((transaction) => transaction.put({ ...transaction.node(ino)!, since: transaction.revision, version: 2 }))
    create('one more')
    await save()
    await forget(Infinity)
    await tree.collect(1000)
    expect(tree.newest.node(ino)).toBeUndefined()
    expect(tree.newest.child(rootIno, 'a')).toBeDefined()
  })
})

it('collection beside a checkpoint leaves what the checkpoint brings', async () => {
  // More fallen rows than one step takes.
  change((transaction) => {
    for (let i = 0; i < 600; i++) transaction.link(rootIno, `f${i}`, transaction.nextIno())
  })
  change((transaction) => {
    for (let i = 0; i < 600; i++) transaction.unlink(rootIno, `f${i}`)
  })
  await save()
  create('one more')
  await save()
  await forget(Infinity)
  // Every name comes and goes again: new tombs in place of the ones to be cleared.
  const shown = change((transaction) => {
    for (let i = 0; i < 600; i++) transaction.link(rootIno, `f${i}`, transaction.nextIno())
  })
  change((transaction) => {
    for (let i = 0; i < 600; i++) transaction.unlink(rootIno, `f${i}`)
  })
  // The database is busy, so that collection and checkpoint meet in its queue.
  const busy = Array.from({ length: 30 }, () =>
    environment.write(() => environment.tables.meta.put({ group: 9, a: -1, b: -1, c: -1, text: 'x' }, Buffer.from('x'))),
  )
  const collecting = tree.collect(10_000)
  const saving = save()
  await Promise.all([collecting, saving, ...busy])
  for (let i = 0; i < 600; i++) expect(tree.at(shown).child(rootIno, `f${i}`), `f${i}`).toBeDefined()
})

it('every large value that stands throughout is among the references, also one that moves into history meanwhile', async () => {
  const blob = (fill: number): BlobRef => ({ root: Buffer.alloc(32, fill), depth: 1, size: 1_000_000 })
  const ino = create('large')
  change((transaction) =>
    transaction.put({ ...transaction.node(ino)!, since: transaction.revision, content: { kind: 'blob', blob: blob(1) } }),
  )
  const shown = create('other')
  const marker = create('marker')
  change((transaction) =>
    transaction.put({ ...transaction.node(marker)!, since: transaction.revision, content: { kind: 'blob', blob: blob(2) } }),
  )
  await save()
  create('one more')
  await save()
  await forget(shown + 1)
  expect(tree.history.floor).toBeGreaterThanOrEqual(shown - 1)
  const found: number[] = []
  const references = tree.blobRefs()[Symbol.iterator]()
  for (let step = 0; ; step++) {
    const next = references.next()
    if (next.done === true) break
    found.push(next.value.root[0]!)
    if (step > 0) continue
    change((transaction) =>
      transaction.put({ ...transaction.node(ino)!, since: transaction.revision, content: { kind: 'blob', blob: blob(3) } }),
    )
    await save()
  }
  expect(found).toContain(1)
})

describe('what is written down of something taken away', () => {
  const fallenRows = (): { readonly key: Uint8Array; readonly value: Buffer }[] => {
    const slot = environment.slotOf(7)
    return environment.tables.fallen.getRange({ start: rowKey(slot), end: rowKey(slot + 1), limit: 100 })
  }

  async function taken(): Promise<void> {
    create('kept')
    create('gone')
    remove('gone')
    create('later')
    await save()
    await forget(Infinity)
  }

  it('and is damaged takes nothing else away: that is corrupt', async () => {
    await taken()
    const kept = tree.newest.child(rootIno, 'later')!
    const [row] = fallenRows()
    const damaged = Buffer.from(row!.key)
    // It names a node that lives, and that was not there yet at the oldest revision that is shown.
    damaged.writeUIntBE(kept, 4 + 6, 6)
    await environment.write(() => {
      environment.tables.fallen.remove(row!.key)
      environment.tables.fallen.put(damaged, row!.value)
    })
    await expect(tree.collect(1000)).rejects.toMatchObject({ kind: 'corrupt' })
    expect(environment.tables.nodes.getBinary(rowKey(7, kept))).toBeDefined()
  })

  it('by an earlier version, without a checksum, counts', async () => {
    await taken()
    await environment.write(() => {
      for (const { key } of fallenRows()) environment.tables.fallen.put(key, Buffer.from([1]))
    })
    expect(await tree.collect(1000)).toBeGreaterThan(0)
    expect(fallenRows()).toEqual([])
  })

  it.each([false, true])('counts in a store that came from a snapshot, also from an earlier version: %s', async (isEarlier) => {
    await taken()
    if (isEarlier) {
      await environment.write(() => {
        for (const { key } of fallenRows()) environment.tables.fallen.put(key, Buffer.from([1]))
      })
    }
    const path = join(dir, 'state.snap')
    await writeSnapshotFile(tree, { store: 'x', incarnation: 'y', name: 'z', owner: 'ann', group: 7 }, path)
    const source = await openSource(path)
    const loaded = await loadSnapshot(environment, source)
    await source.close()
    await loaded.take()
    expect(environment.slotOf(7)).not.toBe(7)
    expect(fallenRows().length).toBe(1)
    expect(await tree.collect(1000)).toBeGreaterThan(0)
    expect(fallenRows()).toEqual([])
  })
})
