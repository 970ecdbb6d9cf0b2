/** What goes wrong around the log and the tree is refused or tried again; it is never passed over. */
import { cpSync, mkdirSync, mkdtempSync, renameSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { setTimeout as wait } from 'node:timers/promises'
import { afterEach, beforeEach, expect, it, vi } from 'vitest'
import type { Context } from '../../namespace/context.ts'
import { NineError } from '../../namespace/errors.ts'
import { parsePath } from '../../namespace/path.ts'
import { openEngine, type Engine, type EngineOptions } from '../../storage/engine/engine.ts'
import { Environment } from '../../storage/tree/environment.ts'

const owner: Context = { principal: { name: 'owner', groups: [] }, deadline: Infinity }
const path = parsePath('/f')

let dir: string
const engines: Engine[] = []

beforeEach(() => {
  dir = join(mkdtempSync(join(tmpdir(), 'nine-faults-')), 'data')
})

afterEach(async () => {
  for (const engine of engines.splice(0)) await engine.close()
  rmSync(join(dir, '..'), { recursive: true, force: true })
})

async function open(options: Partial<EngineOptions> = {}): Promise<Engine> {
  const engine = await openEngine({ dir, owner: 'owner', ...options })
  engines.push(engine)
  return engine
}

it('a store that could not be made is not there, and can be made later', async () => {
  const engine = await open()
  mkdirSync(join(dir, 'stores.json.next'))
  await expect(engine.createStore('data')).rejects.toMatchObject({ name: 'NineError' })
  expect(engine.hasStore('data')).toBe(false)
  rmSync(join(dir, 'stores.json.next'), { recursive: true })
  const other = await engine.createStore('other')
  await other.write(owner, path, Buffer.from('other'))
  const store = await engine.createStore('data')
  await store.write(owner, path, Buffer.from('data'))
  await engine.close()
  const again = await open()
  expect(again.stores().map(({ name }) => name)).toEqual(['other', 'data'])
  expect(Buffer.from((await again.store('data').read(owner, path)).bytes).toString()).toBe('data')
})

it('a store whose folder cannot be opened is not there, and can be made later', async () => {
  const engine = await open()
  mkdirSync(join(dir, 'history'), { recursive: true })
  writeFileSync(join(dir, 'history', '1'), 'in the way')
  await expect(engine.createStore('data')).rejects.toMatchObject({ name: 'NineError' })
  rmSync(join(dir, 'history', '1'))
  await (await engine.createStore('data')).write(owner, path, Buffer.from('data'))
  await engine.close()
  expect((await open()).stores().map(({ name }) => name)).toEqual(['data'])
})

it('stores without their log are refused: what was acknowledged last is in it', async () => {
  const engine = await open()
  const store = await engine.createStore('data')
  await store.write(owner, path, Buffer.from('x'))
  await engine.close()
  renameSync(join(dir, 'wal'), join(dir, '..', 'wal'))
  await expect(open()).rejects.toMatchObject({ kind: 'corrupt' })
  renameSync(join(dir, '..', 'wal'), join(dir, 'wal'))
  expect((await (await open()).store('data').read(owner, path)).bytes.length).toBe(1)
})

it('a log that is shorter than what is saved is refused', async () => {
  const first = await open()
  await first.createStore('data')
  await first.close()
  const copy = join(dir, '..', 'wal')
  renameSync(join(dir, 'wal'), copy)
  mkdirSync(join(dir, 'wal'))
  cpSync(copy, join(dir, 'wal'), { recursive: true })
  const engine = await open()
  for (let i = 0; i < 10; i++) await engine.store('data').write(owner, path, Buffer.from('x'))
  await engine.close()
  rmSync(join(dir, 'wal'), { recursive: true })
  renameSync(copy, join(dir, 'wal'))
  await expect(open()).rejects.toMatchObject({ kind: 'corrupt' })
})

it('a save that fails is tried again after a while, not at once for ever', async () => {
  const warnings: string[] = []
  const logger = { info: () => undefined, error: () => undefined, warn: (_: object, message: string) => void warnings.push(message) }
  const engine = await open({ logger, tuning: { overlayBytesMax: 10_000 } })
  const store = await engine.createStore('data')
  const full = new NineError({ kind: 'no_space', op: 'tree.write', message: 'No space left on device' })
  const disk = vi.spyOn(Environment.prototype, 'write').mockRejectedValue(full)
  const writes = await Promise.allSettled(
    Array.from({ length: 100 }, (_, i) => store.write(owner, parsePath(`/f${i}`), Buffer.alloc(1000))),
  )
  expect(writes.filter(({ status }) => status === 'fulfilled').length).toBe(100)
  // What failed, and what it means for who writes.
  await vi.waitFor(() => expect(warnings.length).toBe(2))
  expect(warnings.filter((text) => text.includes('no more changes are taken'))).toHaveLength(1)
  await expect(store.write(owner, path, Buffer.alloc(1000))).rejects.toMatchObject({ kind: 'no_space', outcome: 'none' })
  await wait(400)
  expect(disk.mock.calls.length).toBe(1)
  disk.mockRestore()
  await engine.save()
  expect(engine.status().stores[0]!.overlayBytes).toBeLessThan(10_000)
  await store.write(owner, path, Buffer.alloc(1000))
})
