/** A value that stands in a row of its own is still there when its file was moved or restated, saved, and moved or restated again. */
import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { expect, it } from 'vitest'
import { openEngine } from '../../storage/engine/engine.ts'
import { at, contextOf } from './cluster-pair.ts'

it('moving and restating a file again and again, with saves between, keeps its value and the log going', async () => {
  const dir = mkdtempSync(join(tmpdir(), 'nine-apart-'))
  const context = contextOf()
  const value = new Uint8Array(3_000).fill(7)
  try {
    let engine = await openEngine({ dir, owner: 'owner' })
    await (await engine.createStore('data')).write(context, at('/f0'), value)
    await engine.close()
    // Opened anew, the value is read from its row when it is asked for.
    engine = await openEngine({ dir, owner: 'owner' })
    const store = engine.store('data')
    for (let i = 0; i < 3; i++) {
      await store.rename(context, at(`/f${i}`), at(`/f${i + 1}`))
      await store.setStat(context, at(`/f${i + 1}`), { mode: 0o600 + i })
      await engine.save()
      expect(Buffer.from((await store.read(context, at(`/f${i + 1}`))).bytes)).toEqual(Buffer.from(value))
    }
    await store.write(context, at('/f3'), new Uint8Array([1]), { at: 'append' })
    expect((await store.stat(context, at('/f3'))).stat.size).toBe(3_001)
    expect(engine.status().isWritable).toBe(true)
    await engine.close()
  } finally {
    rmSync(dir, { recursive: true, force: true })
  }
})
