/** History: what was appended is read back, over segments, restarts, damage and compaction. */
import { readdirSync, readFileSync, rmSync, statSync, truncateSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import fc from 'fast-check'
import { afterEach, describe, expect, it } from 'vitest'
import type { Path } from '../../namespace/path.ts'
import { openHistory, type History } from '../../storage/history/history.ts'
import type { BlobRef, NodeRecord, Revision } from '../../storage/model.ts'
import { testFolders } from './folders.ts'
import { inline, plain, record } from './tree-model.ts'

const folder = testFolders()
const open: History[] = []

afterEach(async () => {
  for (const history of open.splice(0)) await history.close()
})

function openAt(dir: string, revision: number, segmentBytes = 2000): History {
  const history = openHistory({ dir, revision, segmentBytes })
  open.push(history)
  return history
}

/** Revision n changes node 2 + n % `nodes`, and says so in an event. */
function sample(n: number, nodes: number, before: NodeRecord | undefined): { revision: Revision; node: NodeRecord } {
  const version = (before?.version ?? 0) + 1
  const node = record({ ino: 2 + (n % nodes), since: n, version, content: inline(`value ${n}`) })
  const event = { type: 'change', path: '/é/f' as Path, from: undefined, subtree: false, node, previous: before } as const
  const entry = { parent: 1, name: node.name, ino: node.ino, since: n }
  const images = [
    { kind: 'node', after: node, before },
    { kind: 'entry', after: entry, before: n > nodes ? { ...entry, ino: 0, since: n - nodes } : undefined },
  ] as const
  return { revision: { revision: n, time: 10 * n, actor: 'ann', cause: undefined, events: [event], images }, node }
}

function fill(history: History, from: number, to: number, nodes = 3): Revision[] {
  const appended: Revision[] = []
  const known = new Map<number, NodeRecord>()
  for (let n = from; n <= to; n++) {
    const { revision, node } = sample(n, nodes, known.get(2 + (n % nodes)))
    known.set(node.ino, node)
    history.append(revision)
    appended.push(revision)
  }
  return appended
}

function plainRevision({ revision, time, actor, cause, events, images }: Revision): unknown {
  return {
    revision,
    time,
    actor,
    cause,
    events: events.map(({ type, path, from, subtree, node, previous }) => ({
      type,
      path,
      from,
      subtree,
      node: plain(node),
      previous: plain(previous),
    })),
    images: images.map((image) =>
      image.kind === 'node'
        ? { kind: 'node', after: plain(image.after), before: plain(image.before) }
        : { kind: 'entry', after: image.after, before: image.before },
    ),
  }
}

describe('history', () => {
  it('gives back what was appended, from memory, from files and after a restart', async () => {
    const dir = folder()
    let history = openAt(dir, 0)
    const wanted = fill(history, 1, 60).map(plainRevision)
    expect(history.read(1, 1000).map(plainRevision)).toEqual(wanted)
    await history.sync()
    expect(history.pendingBytes).toBe(0)
    expect(history.read(1, 1000).map(plainRevision)).toEqual(wanted)
    await history.close()
    expect(readdirSync(dir).filter((name) => name.endsWith('.history')).length).toBeGreaterThan(3)
    history = openAt(dir, 60)
    expect(history.read(1, 1000).map(plainRevision)).toEqual(wanted)
    expect(history.read(58, 2).map((r) => r.revision)).toEqual([58, 59])
    expect(history.read(61, 5)).toEqual([])
  })

  it('is cut to the revision of the tree, and goes on from there', async () => {
    const dir = folder()
    let history = openAt(dir, 0)
    fill(history, 1, 60)
    await history.sync()
    await history.close()
    for (const revision of [45, 12, 0]) {
      history = openAt(dir, revision)
      expect(history.last).toBe(revision)
      const wanted = fill(history, revision + 1, revision + 9).map(plainRevision)
      expect(history.read(revision + 1, 100).map(plainRevision)).toEqual(wanted)
      await history.sync()
      await history.close()
    }
  })

  it('writes all of a segment that was opened again and filled before the first sync', async () => {
    const dir = folder()
    await openAt(dir, 0).close()
    let history = openAt(dir, 0)
    const wanted = fill(history, 1, 60).map(plainRevision)
    await history.sync()
    await history.close()
    history = openAt(dir, 60)
    expect(history.read(1, 100).map(plainRevision)).toEqual(wanted)
  })

  it('refuses appends out of order', () => {
    const history = openAt(folder(), 0)
    expect(() => history.append(sample(2, 3, undefined).revision)).toThrow(expect.objectContaining({ kind: 'internal' }))
  })

  it('finds the last revision not after a time', async () => {
    const history = openAt(folder(), 0)
    expect(history.revisionAt(5)).toBe(0)
    fill(history, 1, 60)
    expect(history.revisionAt(5)).toBe(0)
    fc.assert(fc.property(fc.integer({ min: 10, max: 900 }), (time) => history.revisionAt(time) === Math.min(60, Math.floor(time / 10))))
    await history.sync()
    history.saved(60)
    await history.compact({ bytesMax: 5000, olderThan: 0 })
    expect(history.revisionAt(10)).toBe(history.floor - 1)
    expect(history.revisionAt(10 * (history.floor + 1))).toBe(history.floor + 1)
  })

  it('drops whole old segments by size and age, what is left stays whole', async () => {
    const dir = folder()
    let history = openAt(dir, 0)
    const wanted = fill(history, 1, 60, 50).map(plainRevision)
    await history.sync()
    expect(await history.compact({ bytesMax: 0, olderThan: 0 })).toBe(0) // no checkpoint yet: opening needs it
    history.saved(60)
    await history.compact({ bytesMax: 6000, olderThan: 0, keepFrom: 5 })
    expect(history.floor).toBeLessThan(5)
    await history.compact({ bytesMax: 6000, olderThan: 0 })
    const { floor } = history
    expect(floor).toBeGreaterThan(10)
    expect(history.size).toBeLessThanOrEqual(6000)
    expect(() => history.read(floor, 1)).toThrow(expect.objectContaining({ kind: 'compacted' }))
    expect(history.read(floor + 1, 100).map(plainRevision)).toEqual(wanted.slice(floor))
    await history.close()
    history = openAt(dir, 60)
    expect(history.floor).toBe(floor)
    expect(history.read(floor + 1, 100).map(plainRevision)).toEqual(wanted.slice(floor))
    await history.compact({ bytesMax: Infinity, olderThan: 550 })
    expect(history.revisionAt(550)).toBe(55)
    expect(history.floor).toBeGreaterThan(floor)
  })

  it('goes back through the many changes of one thing in few steps', () => {
    const history = openAt(folder(), 0, 1 << 24)
    fill(history, 1, 5000, 1)
    for (const target of [1, 2, 7, 8, 9, 64, 500, 4095, 4999]) {
      let steps = 0
      let at = 5000
      for (; ; steps++) {
        const image = history.image(at, 2, undefined)
        if (image.jump > target) at = image.jump
        else if (image.beforeSince! > target) at = image.beforeSince!
        else break
      }
      expect(history.image(at, 2, undefined).beforeSince).toBe(target)
      expect(steps).toBeLessThan(100)
    }
  })

  it('knows the blobs of kept revisions, after restarts and without index files', async () => {
    const dir = folder()
    let history = openAt(dir, 0, 400)
    const blob = (n: number): BlobRef => ({ root: new Uint8Array(32).fill(n), depth: 1, size: 1000 * n })
    for (let n = 1; n <= 20; n++) {
      const after = record({ ino: 2, since: n, content: n % 3 === 0 ? { kind: 'blob', blob: blob(n) } : { kind: 'none' } })
      history.append({
        revision: n,
        time: n,
        actor: 'ann',
        cause: undefined,
        events: [],
        images: [{ kind: 'node', after, before: undefined }],
      })
    }
    const wanted = [3, 6, 9, 12, 15, 18].map(blob)
    expect([...history.blobRefs()]).toEqual(wanted)
    await history.sync()
    await history.close()
    history = openAt(dir, 20, 400)
    expect([...history.blobRefs()]).toEqual(wanted)
    await history.close()
    for (const name of readdirSync(dir)) if (name.endsWith('.index')) rmSync(join(dir, name))
    expect([...openAt(dir, 20, 400).blobRefs()]).toEqual(wanted)
  })
})

describe('damaged history', () => {
  async function damagedAt(flip: (file: Buffer) => void, segmentBytes: number, index: number): Promise<History> {
    const dir = folder()
    const history = openAt(dir, 0, segmentBytes)
    fill(history, 1, 60)
    await history.sync()
    await history.close()
    const file = readdirSync(dir).filter((name) => name.endsWith('.history'))[index]! // prettier-ignore
    const bytes = readFileSync(join(dir, file))
    flip(bytes)
    writeFileSync(join(dir, file), bytes)
    return openAt(dir, 60, segmentBytes)
  }

  it('is corrupt where it is damaged and serves the rest, whatever byte was flipped', async () => {
    await fc.assert(
      fc.asyncProperty(fc.nat({ max: 1_000_000 }), fc.constantFrom(0, 1), async (at, sealed) => {
        const history = await damagedAt((bytes) => (bytes[at % bytes.length]! ^= 0x10), sealed === 1 ? 8000 : 1 << 24, 0)
        let damagedOnes = 0
        for (let n = 1; n <= 60; n++) {
          try {
            const [revision] = history.read(n, 1)
            expect(plain((revision!.images[0] as { after: NodeRecord }).after)).toEqual(
              plain(record({ ino: 2 + (n % 3), since: n, version: Math.ceil(n / 3), content: inline(`value ${n}`) })),
            )
          } catch (error) {
            expect(error).toMatchObject({ kind: 'corrupt' })
            damagedOnes++
          }
        }
        expect(damagedOnes).toBe(1)
        expect(history.last).toBe(60)
        fill(history, 61, 70)
        expect(history.read(61, 100)).toHaveLength(10)
      }),
      { numRuns: 60 },
    )
  })

  it('is refused when it ends before the tree does', async () => {
    const dir = folder()
    const history = openAt(dir, 0, 1 << 24)
    fill(history, 1, 60)
    await history.sync()
    await history.close()
    const file = join(dir, readdirSync(dir)[0]!)
    truncateSync(file, statSync(file).size - 3)
    expect(() => openHistory({ dir, revision: 60 })).toThrow(expect.objectContaining({ kind: 'corrupt' }))
    rmSync(file)
    expect(() => openHistory({ dir, revision: 60 })).toThrow(expect.objectContaining({ kind: 'corrupt' }))
  })

  it('makes a damaged index file again', async () => {
    const dir = folder()
    const history = openAt(dir, 0)
    const wanted = fill(history, 1, 60).map(plainRevision)
    await history.sync()
    await history.close()
    for (const name of readdirSync(dir).filter((each) => each.endsWith('.index'))) {
      const bytes = readFileSync(join(dir, name))
      bytes[bytes.length >> 1]! ^= 1
      writeFileSync(join(dir, name), bytes)
    }
    expect(openAt(dir, 60).read(1, 100).map(plainRevision)).toEqual(wanted)
  })
})
