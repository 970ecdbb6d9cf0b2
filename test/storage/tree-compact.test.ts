/** The database written anew: smaller, the same, while others write and read; whatever crashes when. */
import { spawn } from 'node:child_process'
import { mkdirSync, mkdtempSync, readdirSync, rmdirSync, rmSync, statSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterEach, beforeEach, describe, expect, it } from 'vitest'
import { rootIno } from '../../storage/model.ts'
import { openEnvironment, type Environment } from '../../storage/tree/environment.ts'
import { rowKey, type Tables } from '../../storage/tree/rows.ts'

let dir: string
let environment: Environment | undefined
beforeEach(() => void (dir = mkdtempSync(join(tmpdir(), 'nine-compact-'))))
afterEach(async () => {
  await environment?.close()
  environment = undefined
  rmSync(dir, { recursive: true, force: true })
})

async function openHere(): Promise<Environment> {
  environment = await openEnvironment({ dir: join(dir, 'tree'), historyDir: join(dir, 'history') })
  return environment
}

const file = (): string => join(dir, 'tree', 'tree.mdb')
const put = (tables: Tables, model: Map<number, string>, i: number, text: string): void => {
  tables.nodes.put(rowKey(1, i), Buffer.from(text))
  tables.entries.put(rowKey(1, 7, -1, `näme ${i}`), Buffer.from(text))
  model.set(i, text)
}
const remove = (tables: Tables, model: Map<number, string>, i: number): void => {
  tables.nodes.remove(rowKey(1, i))
  tables.entries.remove(rowKey(1, 7, -1, `näme ${i}`))
  model.delete(i)
}

function expectLike(tables: Tables, model: ReadonlyMap<number, string>, transaction?: { done(): void }): void {
  const [start, end] = [rowKey(1), rowKey(2)]
  const nodes = tables.nodes.getRange({ start, end, limit: 1e6, transaction })
  const found = Array.from(nodes, ({ key, value }) => [Buffer.from(key).readUIntBE(4, 6), value.toString()])
  expect(found).toEqual([...model].sort(([a], [b]) => a - b))
  expect(Array.from(tables.entries.getRange({ start, end, limit: 1e6, transaction })).length).toBe(model.size)
  for (const [i, text] of model)
    if (transaction === undefined) expect(tables.entries.getBinary(rowKey(1, 7, -1, `näme ${i}`))?.toString()).toBe(text)
}

/** Rows of which few are left. */
async function fill({ tables, write }: Pick<Environment, 'tables' | 'write'>, model: Map<number, string>): Promise<void> {
  for (let at = 0; at < 30_000; at += 5_000) {
    await write(() => {
      for (let i = at; i < at + 5_000; i++) put(tables, model, i, `${i} `.repeat(60))
    })
  }
  await write(() => {
    for (let i = 0; i < 30_000; i++) if (i % 10 !== 0) remove(tables, model, i)
  })
}

it('is much smaller afterwards and holds the same, also what was written, replaced and removed meanwhile, and when it is opened again', async () => {
  const { tables } = await openHere()
  const here = environment!
  const model = new Map<number, string>()
  await fill({ tables, write: (puts) => here.write(puts) }, model)
  const before = statSync(file()).size
  let isDone = false
  let writes = 0
  const under: Promise<unknown>[] = []
  const seen: (readonly [number, number])[] = []
  const compacting = here.compact((...step) => seen.push(step)).finally(() => (isDone = true))
  while (!isDone) {
    const n = ++writes
    const change = (): void => {
      for (let i = 0; i < 50; i++) put(tables, model, 100_000 + 50 * n + i, `new ${n}`)
      remove(tables, model, 10 * n)
      put(tables, model, 10 * n + 20_000, `changed ${n}`)
    }
    under.push(Promise.all([n % 2 === 0 ? here.load(change) : here.write(change), here.write(() => put(tables, model, 5, `beside ${n}`))]))
    if (under.length > 4) await under.shift()
    // Readers never wait.
    if (n > 4) expect(tables.nodes.getBinary(rowKey(1, 5))?.toString()).toMatch(/^beside/)
  }
  await Promise.all(under)
  const { before: told, after } = await compacting
  expect(writes).toBeGreaterThan(2)
  expect(told).toBe(before)
  expect(statSync(file()).size).toBeGreaterThanOrEqual(after)
  expect(after).toBeLessThan(before / 3)
  const [done, all] = seen.at(-1)!
  expect([done, seen.length >= 2]).toEqual([all, true])
  expectLike(tables, model)
  await here.write(() => put(tables, model, 1, 'afterwards'))
  expectLike(tables, model)
  // Once more, from the new one.
  await here.compact()
  await here.write(() => put(tables, model, 2, 'and again'))
  await here.close()
  const again = await openHere()
  expectLike(again.tables, model)
  expect(readdirSync(join(dir, 'tree')).filter((name) => name.startsWith('compact'))).toEqual([])
})

it('a state that somebody reads stays readable, and as it was', async () => {
  const { tables } = await openHere()
  const here = environment!
  const model = new Map<number, string>()
  await fill({ tables, write: (puts) => here.write(puts) }, model)
  const reading = here.reading()
  const then = new Map(model)
  await here.compact()
  await here.write(() => put(tables, model, 3, 'later'))
  expectLike(reading.tables, then, reading.transaction)
  expectLike(tables, model)
  reading.done()
})

it('what keeps it from being done leaves all as it is, and the next time it is done', async () => {
  const { tables } = await openHere()
  const here = environment!
  const model = new Map<number, string>()
  await fill({ tables, write: (puts) => here.write(puts) }, model)
  mkdirSync(join(dir, 'tree', 'compact.mdb'))
  await expect(here.compact()).rejects.toMatchObject({ name: 'NineError' })
  await here.write(() => put(tables, model, 3, 'later'))
  expectLike(tables, model)
  rmdirSync(join(dir, 'tree', 'compact.mdb'))
  const { before, after } = await here.compact()
  expect(after).toBeLessThan(before / 3)
  expectLike(tables, model)
})

describe('killed', () => {
  const points = ['compact.copy', 'compact.copied', 'compact.before', 'compact.renamed', 'compact.synced']
  it.each<[string, string | undefined]>([
    ...points.map((point): [string, string] => [point, `${point}=kill`]),
    ['after a checkpoint into the new file', undefined],
  ])('at %s: every checkpoint is there, nothing is left over, and it goes on', { timeout: 60_000 }, async (_what, failpoints) => {
    const said = await runAndKill(failpoints)
    const states = said.map((line) => line.split(' '))
    expect(states.length).toBe(failpoints === undefined ? 3 : 2)
    const here = await openHere()
    const tree = await here.tree(1, { owner: 'ann' })
    const [revision] = states.at(-1)!
    expect(tree.revision).toBe(Number(revision))
    const texts = new Map<string, string>()
    for (const [, count, text] of states) for (let i = 0; i < Number(count); i++) texts.set(`f${i}`, text!.repeat(300))
    const entries = tree.newest.children(rootIno, '', 10_000)
    expect(entries.length).toBe(texts.size)
    for (const { ino, name } of entries) {
      const { content } = tree.newest.node(ino)!
      expect(content.kind === 'inline' && Buffer.from(content.bytes).toString()).toBe(texts.get(name))
    }
    expect(readdirSync(join(dir, 'tree')).filter((name) => name.startsWith('compact'))).toEqual([])
    const { before, after } = await here.compact()
    if (failpoints === 'compact.copied=kill') expect(after).toBeLessThan(before / 2)
  })
})

/** What the child said before it was killed. */
function runAndKill(failpoints: string | undefined): Promise<string[]> {
  const last = failpoints === undefined ? 'checkpoint' : ''
  const child = spawn(process.execPath, ['--import', 'tsx', join(import.meta.dirname, 'compact-child.ts'), dir, last], {
    stdio: ['ignore', 'pipe', 'inherit'],
    env: { ...process.env, ...(failpoints === undefined ? {} : { NINE_FAILPOINTS: failpoints }) },
  })
  let out = ''
  child.stdout.on('data', (chunk: Buffer) => (out += chunk.toString()))
  return new Promise((resolve, reject) => {
    child.once('close', (_code, signal) => {
      if (signal === 'SIGKILL') resolve(out.trim().split('\n'))
      else reject(new Error(`it was to be killed: ${out}`))
    })
  })
}
