/** What the engine does beside serving, saving, cutting, collecting, takes nothing away that is needed. */
import { cpSync } from 'node:fs'
import { setImmediate as nextTurn } from 'node:timers/promises'
import { expect, it } from 'vitest'
import type { Context } from '../../namespace/context.ts'
import { parsePath } from '../../namespace/path.ts'
import { testEngines } from './engines.ts'
import { heldFiles } from './held-files.ts'

const owner: Context = { principal: { name: 'owner', groups: [] }, deadline: Infinity }

const { inFolder, open } = testEngines()

it('chunks of a value whose change is not applied yet are not collected', async () => {
  const { files, hold, release } = heldFiles()
  const engine = await open({ walFiles: files, tuning: { blobGraceMs: 0 } })
  const store = await engine.createStore('data')
  const path = parsePath('/large')
  const value = Buffer.alloc(700_000, 'large ')
  // More than one record in a frame is never written with the event loop waiting, so that it can be held.
  hold()
  const writes = [store.write(owner, path, value), store.write(owner, parsePath('/other'), Buffer.alloc(300_000, 'o'))]
  for (let i = 0; engine.status().waiting < writes.length && i < 100_000; i++) await nextTurn()
  expect(engine.status().blobs.puts).toBeGreaterThan(2)
  expect((await engine.collect()).deleted).toBe(0)
  release()
  await Promise.all(writes)
  expect((await engine.collect()).deleted).toBe(0)
  expect(Buffer.from((await store.read(owner, path)).bytes).equals(value)).toBe(true)
})

it('chunks that nothing shows any more are collected, those that history or a handle shows are not', async () => {
  const engine = await open({ tuning: { blobGraceMs: 0, historyMsMax: 0, historyBytesMax: 0 } })
  const store = await engine.createStore('data')
  const path = parsePath('/large')
  const first = Buffer.alloc(700_000, 'first ')
  const { position } = await store.write(owner, path, first)
  await store.write(owner, path, Buffer.alloc(400_000, 'second '))
  await engine.save()
  await engine.collect()
  expect(Buffer.from((await store.read(owner, path, { at: position })).bytes).equals(first)).toBe(true)
  const { handle } = await store.open(owner, path, { read: true })
  await store.remove(owner, path)
  await engine.save()
  await engine.collect()
  const { bytes } = await store.readHandle(owner, handle, 0, 400_000)
  expect(Buffer.from(bytes).equals(Buffer.alloc(400_000, 'second '))).toBe(true)
})

it('a log that is cut while writes go on still has all that is not saved', async () => {
  const engine = await open({ tuning: { walSegmentBytes: 1024 * 1024 } })
  const store = await engine.createStore('data')
  const acknowledged = new Map<number, number>()
  let isWriting = true
  const writing = Array.from({ length: 3 }, async (_, i) => {
    for (let n = 1; isWriting; n++) {
      await store.write(owner, parsePath(`/f${i}`), Buffer.alloc(100_000, `${i} ${n} `))
      acknowledged.set(i, n)
    }
  })
  let replayed = 0
  try {
    for (let round = 0; round < 3; round++) {
      // Much to save, so that the log goes on over several segments meanwhile.
      for (let k = 0; k < 10; k++) {
        const then = Array.from({ length: 1000 }, (_, j) => ({ op: 'create' as const, path: parsePath(`/r${round}-${k}-${j}`) }))
        await store.txn(owner, { if: [], then, else: [] })
      }
      await engine.save()
      // The log was cut in this turn. As a crash now leaves it: what was acknowledged since the save began is in the log alone.
      const expected = new Map(acknowledged)
      const copy = inFolder(`copy-${round}`)
      cpSync(engine.dir, copy, { recursive: true })
      const again = await open({ dir: copy })
      for (const [i, n] of expected) {
        const { bytes } = await again.store('data').read(owner, parsePath(`/f${i}`))
        const shown = Number(Buffer.from(bytes.subarray(0, 40)).toString().split(' ')[1])
        expect(shown).toBeGreaterThanOrEqual(n)
        expect(Buffer.from(bytes).equals(Buffer.alloc(100_000, `${i} ${shown} `))).toBe(true)
      }
      replayed += again.status().replayed
      await again.close()
    }
  } finally {
    isWriting = false
    await Promise.all(writing)
  }
  expect(replayed).toBeGreaterThan(0)
})
