/** Handles and waiting changes at the edges: sessions that end, limits, a node that closes, rights that are taken away. */
import fs from 'node:fs'
import { syncBuiltinESMExports } from 'node:module'
import { setImmediate as nextTurn } from 'node:timers/promises'
import { afterEach, expect, it } from 'vitest'
import type { Context } from '../../namespace/context.ts'
import { limits } from '../../namespace/limits.ts'
import { parsePath } from '../../namespace/path.ts'
import type { Engine } from '../../storage/engine/engine.ts'
import { testEngines } from './engines.ts'
import { heldFiles } from './held-files.ts'

const owner: Context = { principal: { name: 'owner', groups: [] }, deadline: Infinity }
const over = (session: number): Context => ({ ...owner, session })

const { fdatasync } = fs
const { open } = testEngines()

afterEach(() => {
  fs.fdatasync = fdatasync
  syncBuiltinESMExports()
})

/** Until `count` proposals wait. */
async function waiting(engine: Engine, count: number): Promise<void> {
  for (let i = 0; engine.status().waiting < count && i < 100_000; i++) await nextTurn()
}

it('a handle whose session ends while it is opened does not stay open', async () => {
  const { files, hold, release } = heldFiles()
  const engine = await open({ walFiles: files })
  const store = await engine.createStore('data')
  hold()
  const opened = store.open(over(5), parsePath('/f'), { mode: 'shared', write: true, create: true })
  // Two records in a frame are written off the event loop, where they can be held.
  const other = store.write(owner, parsePath('/other'), Buffer.from('x'))
  await waiting(engine, 2)
  await store.closeSession(5)
  release()
  await expect(opened).rejects.toMatchObject({ kind: 'unavailable' })
  await other
  expect(store.openHandles).toBe(0)
})

it('handles that are being opened count', async () => {
  const { files, hold, release } = heldFiles()
  const engine = await open({ walFiles: files })
  const store = await engine.createStore('data')
  hold()
  const opened = Array.from({ length: limits.session_handles_max + 3 }, (_, i) =>
    store.open(over(5), parsePath(`/f${i}`), { mode: 'shared', write: true, create: true }).then(
      () => 'open',
      (error: { kind: string }) => error.kind,
    ),
  )
  await waiting(engine, limits.session_handles_max)
  release()
  const answers = await Promise.all(opened)
  expect(answers.filter((answer) => answer === 'overloaded')).toHaveLength(3)
  expect(store.openHandles).toBe(limits.session_handles_max)
})

it('closing publishes what shared handles hold, however little memory there is for it', async () => {
  const engine = await open({ tuning: { overlayBytesMax: 1 } })
  const store = await engine.createStore('data')
  for (let session = 1; session <= 5; session++) {
    const path = parsePath(`/f${session}`)
    const { handle } = await store.open(over(session), path, { mode: 'shared', write: true, create: true })
    await store.writeHandle(over(session), handle, Buffer.from('staged'), 0)
  }
  await engine.close()
  await expect(store.open(over(1), parsePath('/f1'), { mode: 'shared', read: true })).rejects.toMatchObject({ kind: 'unavailable' })
  const again = (await open()).store('data')
  for (let session = 1; session <= 5; session++) {
    expect(Buffer.from((await again.read(owner, parsePath(`/f${session}`))).bytes).toString()).toBe('staged')
  }
})

it('what one principal may no longer publish does not keep what another wrote from being published', async () => {
  const store = await (await open()).createStore('data')
  const path = parsePath('/d/f')
  await store.write(owner, path, Buffer.from('......'), { parents: true })
  const all = (who: string) => ({ who, rights: ['read', 'write', 'list', 'create', 'remove'] as const })
  await store.setRights(owner, parsePath('/d'), [all('ann'), all('bob')])
  const ann: Context = { ...over(1), principal: { name: 'ann', groups: [] } }
  const bob: Context = { ...over(2), principal: { name: 'bob', groups: [] } }
  const a = await store.open(ann, path, { mode: 'shared', write: true })
  const b = await store.open(bob, path, { mode: 'shared', write: true })
  await store.writeHandle(ann, a.handle, Buffer.from('ann'), 0)
  await store.writeHandle(bob, b.handle, Buffer.from('bob'), 3)
  await store.setRights(owner, parsePath('/d'), [all('bob')])
  await expect(store.syncHandle(bob, b.handle)).rejects.toMatchObject({ kind: 'denied' })
  expect((await store.stat(owner, path)).stat.modifiedBy).toBe('bob')
  await store.closeHandle(bob, b.handle)
  await store.closeHandle(ann, a.handle)
  expect(Buffer.from((await store.read(owner, path)).bytes).toString()).toBe('...bob')
})

it('changes that wait for a save have their deadline, and keep their order', async () => {
  const engine = await open({ tuning: { overlayBytesMax: 1 } })
  const store = await engine.createStore('data')
  let release = (): void => undefined
  const isSaving = new Promise<void>((resolve) => {
    const held: (() => void)[] = []
    release = () => {
      fs.fdatasync = fdatasync
      syncBuiltinESMExports()
      for (const sync of held.splice(0)) sync()
    }
    fs.fdatasync = Object.assign((fd: number, done: fs.NoParamCallback) => {
      held.push(() => fdatasync(fd, done))
      resolve()
    }, fdatasync)
    syncBuiltinESMExports()
  })
  await store.write(owner, parsePath('/first'), Buffer.from('x'))
  await isSaving
  const late = store.write({ ...owner, deadline: performance.now() + 20 }, parsePath('/late'), Buffer.from('x'))
  await expect(late).rejects.toMatchObject({ kind: 'deadline', outcome: 'none' })
  const stop = new AbortController()
  const stopped = store.write({ ...owner, signal: stop.signal }, parsePath('/stopped'), Buffer.from('x'))
  stop.abort()
  await expect(stopped).rejects.toMatchObject({ kind: 'deadline', outcome: 'none' })
  const order: string[] = []
  const log = parsePath('/log')
  const writes = ['a', 'b', 'c'].map((text) => store.write(owner, log, Buffer.from(text), { at: 'append' }).then(() => order.push(text)))
  await waiting(engine, 3)
  release()
  await Promise.all(writes)
  expect(Buffer.from((await store.read(owner, log)).bytes).toString()).toBe('abc')
})
