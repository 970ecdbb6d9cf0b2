/** A state that takes the place of another brings values with it, which no collection that is under way takes away. */
import { readFileSync } from 'node:fs'
import { describe, expect, it } from 'vitest'
import type { Context } from '../../namespace/context.ts'
import { parsePath } from '../../namespace/path.ts'
import type { Engine, EngineOptions } from '../../storage/engine/engine.ts'
import { writeBackupFile } from '../../storage/snapshot/backup.ts'
import { testEngines } from './engines.ts'

const owner: Context = { principal: { name: 'owner', groups: [] }, deadline: Infinity }

const { inFolder, open } = testEngines()

describe('a state that takes the place of another while values are collected', () => {
  /** A store in which 5 values, and nodes enough for several looks at them, are saved; and a backup of it. */
  async function withBackup(tuning: EngineOptions['tuning']): Promise<{ engine: Engine; values: string[]; backup: Uint8Array }> {
    const engine = await open({ tuning: { historyMsMax: 0, historyBytesMax: 0, ...tuning } })
    const store = await engine.createStore('data')
    const values: string[] = []
    const value = async (i: number): Promise<void> => {
      await store.write(owner, parsePath(`/v${i}`), Buffer.alloc(300_000, `${i} `))
      values.push(`/v${i}`)
    }
    await value(0)
    await Promise.all(Array.from({ length: 1200 }, (_, i) => store.write(owner, parsePath(`/s${i}`), Buffer.from('x'))))
    for (let i = 1; i < 5; i++) await value(i)
    await engine.save()
    const path = inFolder('backup')
    await writeBackupFile(await engine.backupParts('data'), path, { history: false })
    return { engine, values, backup: readFileSync(path) }
  }

  const restore = (engine: Engine, bytes: Uint8Array, id: string): Promise<unknown> =>
    engine.restore(owner, 'data', { op: 'restore', id, incarnation: id, backup: { kind: 'inline', bytes } })

  it('ends looking through its values', async () => {
    const { engine, backup } = await withBackup({})
    const { tree } = await engine.backupParts('data')
    const roots = tree.blobRefs()[Symbol.iterator]()
    expect(roots.next().done).toBe(false)
    await restore(engine, backup, 'r.1')
    expect(() => roots.next()).toThrow(expect.objectContaining({ kind: 'unavailable' }))
  })

  it('ends the collection, although all were looked through before', async () => {
    const { engine, values, backup } = await withBackup({ blobGraceMs: 0 })
    const store = engine.store('data')
    for (const path of values) await store.remove(owner, parsePath(path))
    await engine.save()
    await engine.collect()
    // Now the values are there for no root: the state that names them comes while chunks are deleted.
    const { blobs } = engine
    const list = blobs.list.bind(blobs)
    let isRestored = false
    blobs.list = async function* () {
      for await (const chunk of list()) {
        if (!isRestored) {
          isRestored = true
          await restore(engine, backup, 'r.1')
        }
        yield chunk
      }
    }
    await expect(engine.collect()).rejects.toMatchObject({ kind: 'unavailable' })
    for (const [i, path] of values.entries()) {
      const { bytes } = await store.read(owner, parsePath(path))
      expect(Buffer.from(bytes).equals(Buffer.alloc(300_000, `${i} `))).toBe(true)
    }
  })
})
