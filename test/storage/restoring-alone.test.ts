/** A node alone puts the state of a backup in the place of a store's while it serves. */
import { readFileSync } from 'node:fs'
import { expect, it, vi } from 'vitest'
import type { Context } from '../../namespace/context.ts'
import { isNineError, NineError } from '../../namespace/errors.ts'
import { parsePath } from '../../namespace/path.ts'
import { writeBackupFile } from '../../storage/snapshot/backup.ts'
import { Environment } from '../../storage/tree/environment.ts'
import { testEngines } from './engines.ts'

const owner: Context = { principal: { name: 'owner', groups: [] }, deadline: Infinity }

const { inFolder, open } = testEngines()

function valueOf(seed: number): Buffer {
  return Buffer.from(Uint32Array.from({ length: 200_000 }, (_, i) => Math.imul(i + seed * 7919, 2654435761)).buffer)
}

it('no chunk of the backup is collected before the store names it, however long that takes', async () => {
  const count = 12
  const source = await open({ dir: inFolder('source') })
  const from = await source.createStore('data')
  for (let i = 0; i < count; i++) await from.write(owner, parsePath(`/v${i}`), valueOf(i))
  const path = inFolder('data.backup')
  await writeBackupFile(await source.backupParts('data'), path)
  const engine = await open({ tuning: { blobGraceMs: 0 } })
  const store = await engine.createStore('data')
  await store.write(owner, parsePath('/removed'), valueOf(count))
  let isDone = false
  const backup = { kind: 'inline', bytes: readFileSync(path) } as const
  const restoring = engine
    .restore(owner, 'data', { op: 'restore', id: 'one', incarnation: 'second', backup })
    .finally(() => (isDone = true))
  while (!isDone) {
    await engine.collect().catch((error: unknown) => {
      if (!isNineError(error, 'unavailable')) throw error // The store got another state meanwhile.
    })
  }
  expect(await restoring).toMatchObject({ kind: 'txn' })
  await engine.save()
  await engine.collect()
  for (let i = 0; i < count; i++) {
    expect(Buffer.from((await store.read(owner, parsePath(`/v${i}`))).bytes).equals(valueOf(i))).toBe(true)
  }
})

it('that cannot be put in place leaves what clients were answered as it was', async () => {
  const engine = await open()
  const store = await engine.createStore('data')
  const path = inFolder('data.backup')
  await writeBackupFile(await engine.backupParts('data'), path)
  const asked: Context = { ...owner, client: { id: 'c', born: 1, settled: 0 }, seq: 1, digest: 'd' }
  const first = await store.write(asked, parsePath('/file'), Buffer.from('once'))
  const full = new NineError({ kind: 'no_space', op: 'tree.write', message: 'the disk is full' })
  const take = vi.spyOn(Environment.prototype, 'take').mockRejectedValueOnce(full)
  const backup = { kind: 'inline', bytes: readFileSync(path) } as const
  const restoring = engine.restore(owner, 'data', { op: 'restore', id: 'one', incarnation: 'second', backup })
  await expect(restoring).rejects.toMatchObject({ kind: 'no_space' })
  expect(take).toHaveBeenCalledOnce()
  take.mockRestore()
  expect(await store.write(asked, parsePath('/file'), Buffer.from('once'))).toEqual(first)
})
