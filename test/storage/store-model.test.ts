/**
 * The store against a small model: random commands, restarts (clean, and from a copy of the folder as a crash leaves it),
 * past reads at every position, and a watch that has to tell the whole story.
 */
import { cpSync, mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import fc from 'fast-check'
import { expect, it } from 'vitest'
import type { Context } from '../../namespace/context.ts'
import { isNineError } from '../../namespace/errors.ts'
import type { MutationResult, TxnOperation, WatchEvent } from '../../namespace/file-server.ts'
import { baseName, isWithin, parentPath, parsePath, rootPath, type Path } from '../../namespace/path.ts'
import type { Position } from '../../namespace/position.ts'
import { openEngine, type Engine } from '../../storage/engine/engine.ts'
import type { Store } from '../../storage/store/store.ts'

const owner: Context = { principal: { name: 'owner', groups: [] }, deadline: Infinity }

type Change =
  | { op: 'write' | 'append' | 'create'; path: Path; text: string }
  | { op: 'mkdir'; path: Path }
  | { op: 'remove'; path: Path; recursive: boolean }
  | { op: 'rename'; path: Path; to: Path; replace: boolean }
type Step = { op: 'change'; change: Change } | { op: 'txn'; changes: Change[] } | { op: 'restart'; clean: boolean } | { op: 'save' }

/** Path to text of a file, or undefined for a directory. */
type Dump = ReadonlyMap<Path, string | undefined>

/** Each operation gives the state after it, or undefined where it has to fail. */
function changed(state: Dump, change: Change): Dump | undefined {
  const { path } = change
  const next = new Map(state)
  const isDirectory = (at: Path): boolean => state.has(at) && state.get(at) === undefined
  if (path === rootPath) return undefined
  switch (change.op) {
    case 'write':
    case 'append':
    case 'create': {
      if (!isDirectory(parentPath(path)) || isDirectory(path)) return undefined
      if (change.op === 'create' && state.has(path)) return undefined
      const before = change.op === 'append' ? (state.get(path) ?? '') : ''
      return next.set(path, before + (change.op === 'create' ? '' : change.text))
    }
    case 'mkdir':
      return !isDirectory(parentPath(path)) || state.has(path) ? undefined : next.set(path, undefined)
    case 'remove': {
      if (!state.has(path)) return undefined
      const below = [...state.keys()].filter((other) => isWithin(other, path))
      if (below.length > 1 && !change.recursive) return undefined
      for (const other of below) next.delete(other)
      return next
    }
    case 'rename': {
      const { to } = change
      if (!state.has(path) || !isDirectory(parentPath(to)) || to === rootPath) return undefined
      if (to === path) return state
      if (isWithin(to, path)) return undefined
      if (state.has(to)) {
        if (!change.replace || isDirectory(path) !== isDirectory(to)) return undefined
        if ([...state.keys()].some((other) => other !== to && isWithin(other, to))) return undefined
      }
      const moved = [...state].filter(([other]) => isWithin(other, path))
      for (const [other] of moved) next.delete(other)
      for (const [other, text] of moved) next.set((to + other.slice(path.length)) as Path, text)
      return next
    }
  }
}

function perform(store: Store, change: Change): Promise<MutationResult> {
  switch (change.op) {
    case 'write':
      return store.write(owner, change.path, Buffer.from(change.text))
    case 'append':
      return store.write(owner, change.path, Buffer.from(change.text), { at: 'append' })
    case 'create':
      return store.create(owner, change.path)
    case 'mkdir':
      return store.mkdir(owner, change.path)
    case 'remove':
      return store.remove(owner, change.path, { recursive: change.recursive })
    case 'rename':
      return store.rename(owner, change.path, change.to, { replace: change.replace })
  }
}

function toOperation(change: Change): TxnOperation {
  switch (change.op) {
    case 'write':
      return { op: 'write', path: change.path, bytes: Buffer.from(change.text) }
    case 'append':
      return { op: 'write', path: change.path, bytes: Buffer.from(change.text), options: { at: 'append' } }
    case 'create':
    case 'mkdir':
      return { op: change.op, path: change.path }
    case 'remove':
      return { op: 'remove', path: change.path, options: { recursive: change.recursive } }
    case 'rename':
      return { op: 'rename', path: change.path, to: change.to, options: { replace: change.replace } }
  }
}

/** What the store shows, read page by page. */
async function dumpOf(store: Store, at?: Position): Promise<Dump> {
  const dump = new Map<Path, string | undefined>([[rootPath, undefined]])
  let cursor: string | undefined
  do {
    const page = await store.list(owner, rootPath, { recursive: true, limit: 3, at, cursor })
    for (const stat of page.entries) {
      const path = parsePath(`/${stat.name}`)
      dump.set(path, stat.kind === 'directory' ? undefined : Buffer.from((await store.read(owner, path, { at })).bytes).toString())
    }
    cursor = page.next
  } while (cursor !== undefined)
  return dump
}

function sorted(dump: Dump): [Path, string | undefined][] {
  return [...dump].sort(([a], [b]) => (a < b ? -1 : 1))
}

/** What someone who only watches knows. */
function told(state: Map<Path, string | undefined>, event: WatchEvent): void {
  const text = event.bytes === undefined ? undefined : Buffer.from(event.bytes).toString()
  expect(event.stat.name).toBe(baseName(event.path))
  if (event.type === 'remove') {
    for (const path of [...state.keys()]) if (isWithin(path, event.path)) state.delete(path)
  } else if (event.type === 'rename') {
    const from = event.from!
    const moved = [...state].filter(([path]) => isWithin(path, from))
    for (const [path] of moved) state.delete(path)
    for (const path of [...state.keys()]) if (isWithin(path, event.path)) state.delete(path)
    for (const [path, value] of moved) state.set((event.path + path.slice(from.length)) as Path, value)
  } else {
    state.set(event.path, event.stat.kind === 'directory' ? undefined : text)
  }
}

const path = fc.array(fc.constantFrom('a', 'b', 'c'), { minLength: 1, maxLength: 3 }).map((names) => parsePath(`/${names.join('/')}`))
const change: fc.Arbitrary<Change> = fc.oneof(
  fc.record({ op: fc.constantFrom('write' as const, 'append' as const, 'create' as const), path, text: fc.string({ maxLength: 5 }) }),
  fc.record({ op: fc.constant('mkdir' as const), path }),
  fc.record({ op: fc.constant('remove' as const), path, recursive: fc.boolean() }),
  fc.record({ op: fc.constant('rename' as const), path, to: path, replace: fc.boolean() }),
)
const step: fc.Arbitrary<Step> = fc.oneof(
  { weight: 20, arbitrary: fc.record({ op: fc.constant('change' as const), change }) },
  { weight: 3, arbitrary: fc.record({ op: fc.constant('txn' as const), changes: fc.array(change, { minLength: 1, maxLength: 4 }) }) },
  { weight: 2, arbitrary: fc.record({ op: fc.constant('restart' as const), clean: fc.boolean() }) },
  { weight: 1, arbitrary: fc.constant({ op: 'save' as const }) },
)

async function restarted(engine: Engine, clean: boolean, base: string, life: number): Promise<Engine> {
  if (clean) {
    await engine.close()
    return openEngine({ dir: engine.dir, owner: 'owner' })
  }
  const copy = join(base, `life-${life}`)
  cpSync(engine.dir, copy, { recursive: true })
  const next = await openEngine({ dir: copy, owner: 'owner' })
  await engine.close()
  return next
}

async function run(steps: readonly Step[]): Promise<void> {
  const base = mkdtempSync(join(tmpdir(), 'nine-model-'))
  let engine = await openEngine({ dir: join(base, 'life'), owner: 'owner' })
  try {
    let store = await engine.createStore('data')
    let state: Dump = new Map([[rootPath, undefined]])
    const past: { position: Position; state: Dump }[] = []
    for (const [life, one] of steps.entries()) {
      if (one.op === 'save') await engine.save()
      else if (one.op === 'restart') {
        engine = await restarted(engine, one.clean, base, life)
        store = engine.store('data')
      } else {
        const changes = one.op === 'change' ? [one.change] : one.changes
        let next: Dump | undefined = state
        for (const each of changes) next = next === undefined ? undefined : changed(next, each)
        const answer =
          one.op === 'change' ? perform(store, one.change) : store.txn(owner, { if: [], then: changes.map(toOperation), else: [] })
        const position = await answer.then(
          (result) => result.position,
          (error: unknown) => {
            if (!isNineError(error)) throw error
            return error.kind
          },
        )
        if (next === undefined) expect(typeof position, `${JSON.stringify(one)} was done`).toBe('string')
        else {
          expect(typeof position, `${JSON.stringify(one)} failed with ${JSON.stringify(position)}`).toBe('object')
          state = next
          past.push({ position: position as Position, state })
        }
      }
      expect(sorted(await dumpOf(store))).toEqual(sorted(state))
    }
    for (const { position, state: then } of past) expect(sorted(await dumpOf(store, position))).toEqual(sorted(then))

    const known = new Map<Path, string | undefined>([[rootPath, undefined]])
    let last = 0
    if (store.revision > 0) {
      for await (const batch of store.watch(owner, rootPath, { recursive: true, from: 1 })) {
        for (const event of batch.events) {
          const at = event.position[0]!
          const order = at.revision * 10_000 + at.ordinal
          expect(order).toBeGreaterThan(last)
          last = order
          told(known, event)
        }
        if (batch.position[0]!.revision > store.revision) break
      }
    }
    expect(sorted(known)).toEqual(sorted(state))
  } finally {
    await engine.close()
    rmSync(base, { recursive: true, force: true })
  }
}

it('does what the model does, over restarts, in the past and to those who watch', async () => {
  await fc.assert(fc.asyncProperty(fc.array(step, { minLength: 1, maxLength: 25 }), run), {
    numRuns: Number(process.env['NINE_MODEL_RUNS'] ?? 12),
  })
}, 300_000)
