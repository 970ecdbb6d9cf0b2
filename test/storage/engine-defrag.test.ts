/** A folder gives room on the disk back when it is asked to, while it serves. */
import { mkdtempSync, rmSync, statSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterEach, beforeEach, expect, it } from 'vitest'
import type { Context } from '../../namespace/context.ts'
import { parsePath } from '../../namespace/path.ts'
import { openEngine, type Engine } from '../../storage/engine/engine.ts'
import type { DefragStep } from '../../storage/engine/upkeep.ts'
import type { Store } from '../../storage/store/store.ts'

const owner: Context = { principal: { name: 'owner', groups: [] }, deadline: Infinity }

let dir: string
let engine: Engine | undefined
beforeEach(() => void (dir = mkdtempSync(join(tmpdir(), 'nine-defrag-'))))
afterEach(async () => {
  await engine?.close()
  engine = undefined
  rmSync(dir, { recursive: true, force: true })
})

async function open(): Promise<Engine> {
  return (engine = await openEngine({ dir, owner: 'owner', tuning: { historyMsMax: 0, historyBytesMax: 0 } }))
}

const text = (i: number): string => `value ${i} `.repeat(300)

async function expectFiles(store: Store, values: ReadonlyMap<string, string>): Promise<void> {
  const names = new Set<string>()
  for (let cursor: string | undefined; ;) {
    const { entries, next } = await store.list(owner, parsePath('/'), { cursor, limit: 500 })
    for (const { name } of entries) names.add(name)
    if (next === undefined) break
    cursor = next
  }
  expect(names).toEqual(new Set(values.keys()))
  for (const [name, value] of values) expect(Buffer.from((await store.read(owner, parsePath(`/${name}`))).bytes).toString()).toBe(value)
}

it('its database is much smaller, what stands and what is written meanwhile is there, also when it is opened again', async () => {
  const first = await open()
  const store = await first.createStore('data')
  const values = new Map<string, string>()
  const write = async (i: number): Promise<void> => {
    await store.write(owner, parsePath(`/f${i}`), Buffer.from(text(i)))
    values.set(`f${i}`, text(i))
  }
  for (let at = 0; at < 6_000; at += 500) await Promise.all(Array.from({ length: 500 }, (_, j) => write(at + j)))
  await first.save()
  // What was removed stays as long as history shows it; a value that is replaced by a small one leaves room at once.
  const shrink = async (i: number): Promise<void> => {
    await store.write(owner, parsePath(`/f${i}`), Buffer.from('x'))
    values.set(`f${i}`, 'x')
  }
  for (let at = 300; at < 6_000; at += 500) await Promise.all(Array.from({ length: Math.min(500, 6_000 - at) }, (_, j) => shrink(at + j)))
  const steps: DefragStep[] = []
  let isDone = false
  const defrag = first.defrag((step) => steps.push(step)).finally(() => (isDone = true))
  for (let i = 10_000; !isDone; i++) await write(i)
  const { before, after } = await defrag
  expect(after).toBeLessThan(before / 3)
  expect(statSync(join(dir, 'tree', 'tree.mdb')).size).toBeLessThan(before / 3)
  expect(steps.map(({ step }) => step).slice(0, 3)).toEqual(['save', 'collect', 'copy'])
  await write(20_000)
  await expectFiles(store, values)
  await first.close()
  const again = await open()
  await expectFiles(again.store('data'), values)
  expect(again.status().failure).toBeUndefined()
})
