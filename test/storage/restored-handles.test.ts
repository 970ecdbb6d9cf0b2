/** Handles that are open while their store is restored: the numbers of files in the backup may be those of others. */
import { readFileSync } from 'node:fs'
import { expect, it } from 'vitest'
import { contextFor } from '../../namespace/context.ts'
import { parsePath } from '../../namespace/path.ts'
import { writeBackupFile } from '../../storage/snapshot/backup.ts'
import { testEngines } from './engines.ts'

const owner = contextFor({ name: 'owner', groups: [] }, Infinity)
const { inFolder, open } = testEngines()

it.each(['atomic', 'shared'] as const)('a handle of mode %s ends, and neither shows nor changes what has its number then', async (mode) => {
  const other = await open({ dir: inFolder('other') })
  const from = await other.createStore('data')
  await from.write(owner, parsePath('/secret'), Buffer.from('secret'))
  const path = inFolder('backup')
  await writeBackupFile(await other.backupParts('data'), path)
  const engine = await open()
  const store = await engine.createStore('data')
  await store.write(owner, parsePath('/public'), Buffer.from('public'))
  const { handle, stat } = await store.open(owner, parsePath('/public'), { read: true, write: true, mode })
  const mine = await store.open(owner, parsePath('/public'), { read: true, write: true, mode })
  await store.writeHandle(owner, mine.handle, Buffer.from('P'), 0)
  const backup = { kind: 'inline', bytes: readFileSync(path) } as const
  await engine.restore(owner, 'data', { op: 'restore', id: 'r.1', incarnation: 'second', endsHandles: true, backup })
  expect((await store.stat(owner, parsePath('/secret'))).stat.qid.path).toBe(stat.qid.path)
  const ended = { kind: 'compacted' }
  await expect(store.readHandle(owner, handle, 0, 10)).rejects.toMatchObject(ended)
  await expect(store.statHandle(owner, handle)).rejects.toMatchObject(ended)
  await expect(store.writeHandle(owner, handle, Buffer.from('x'), 0)).rejects.toMatchObject(ended)
  await expect(store.syncHandle(owner, mine.handle)).rejects.toMatchObject(ended)
  // A new one of the same number has nothing of theirs.
  const next = await store.open(owner, parsePath('/secret'), { read: true, write: true, mode })
  await expect(store.closeHandle(owner, handle)).rejects.toMatchObject(ended)
  await expect(store.closeHandle(owner, mine.handle)).rejects.toMatchObject(ended)
  expect(store.openHandles).toBe(1)
  await store.writeHandle(owner, next.handle, Buffer.from('S'), 0)
  await store.closeHandle(owner, next.handle)
  expect(Buffer.from((await store.read(owner, parsePath('/secret'))).bytes).toString()).toBe('Secret')
})
