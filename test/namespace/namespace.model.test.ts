/**
 * The Namespace against a naive model of it (model.ts): random trees, mounts, binds, unions, forks and changes; after every
 * step all namespaces show what their models show, so a change in a fork is never seen in another.
 * A failing run prints its seed; run it again with SEED=n.
 */
import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { contextFor } from '../../namespace/context.ts'
import { isNineError } from '../../namespace/errors.ts'
import { MemoryServer } from '../../namespace/memory/memory-server.ts'
import { Namespace } from '../../namespace/namespace.ts'
import { parsePath } from '../../namespace/path.ts'
import type { Path } from '../../namespace/path.ts'
import type { Stat } from '../../namespace/stat.ts'
import { ModelError, ModelNamespace } from './model.ts'
import type { Order, Tree } from './model.ts'

const seed = Number(process.env['SEED'] ?? Date.now() % 1e9)
const runs = Number(process.env['RUNS'] ?? 80)
const context = contextFor({ name: 'someone', groups: [] }, Infinity)
const server_count = 3
const decoder = new TextDecoder()

type Step =
  | { readonly op: 'write' | 'mkdir' | 'remove' | 'unmount'; readonly path: string[] }
  | { readonly op: 'mount'; readonly server: number; readonly path: string[]; readonly order: Order; readonly create: boolean }
  | { readonly op: 'bind'; readonly from: string[]; readonly path: string[]; readonly order: Order; readonly create: boolean }
  | { readonly op: 'fork' }

const path = fc.array(fc.constantFrom('a', 'b', 'c'), { maxLength: 3 })
const order = fc.constantFrom<Order>('replace', 'before', 'after')
const server = fc.nat(server_count - 1)
const step: fc.Arbitrary<Step> = fc.oneof(
  { weight: 3, arbitrary: fc.record({ op: fc.constantFrom('write' as const, 'mkdir' as const, 'remove' as const), path }) },
  { weight: 1, arbitrary: fc.record({ op: fc.constant('unmount' as const), path }) },
  { weight: 3, arbitrary: fc.record({ op: fc.constant('mount' as const), server, path, order, create: fc.boolean() }) },
  { weight: 3, arbitrary: fc.record({ op: fc.constant('bind' as const), from: path, path, order, create: fc.boolean() }) },
  { weight: 1, arbitrary: fc.constant({ op: 'fork' as const }) },
)
const files = fc.array(fc.record({ server, path, isFile: fc.boolean() }), { maxLength: 14 })
const steps = fc.array(fc.record({ session: fc.nat(2), step }), { maxLength: 14 })

const everyPath: string[][] = [[]]
for (const list of everyPath) if (list.length < 3) everyPath.push(...['a', 'b', 'c'].map((name) => [...list, name]))

describe(`namespace against its model (SEED=${seed})`, () => {
  it(
    'does what the model does, step by step, and no fork sees another',
    async () => {
      const check = fc.asyncProperty(files, steps, async (made, run) => {
        const servers = Array.from({ length: server_count }, () => new MemoryServer({ owner: 'someone' }))
        const trees: Tree[] = servers.map(() => new Map<string, Tree>())
        const sessions = [{ real: new Namespace(servers[0]), model: new ModelNamespace(trees) }]
        for (const { server: at, path: where, isFile } of made) {
          // The same tree in the server and in the model: a namespace of the server alone makes it.
          const one = { real: new Namespace(servers[at]), model: new ModelNamespace([trees[at]!]) }
          await same(one, { op: isFile ? 'write' : 'mkdir', path: where }, `${at}${where.join('')}`)
        }
        for (const [number, { session, step: next }] of run.entries()) {
          const chosen = sessions[session % sessions.length]!
          if (next.op === 'fork') {
            if (sessions.length < 3) sessions.push({ real: chosen.real.fork(), model: chosen.model.fork() })
          } else {
            await same(chosen, next, `step ${number}`, servers)
          }
          for (const each of sessions) await sameEverywhere(each)
        }
      })
      await fc.assert(check, { seed, numRuns: runs, endOnFailure: false })
    },
    60_000 + runs * 500,
  )
})

interface Session {
  readonly real: Namespace
  readonly model: ModelNamespace
}

async function same(
  { real, model }: Session,
  next: Exclude<Step, { op: 'fork' }>,
  text: string,
  servers: readonly MemoryServer[] = [],
): Promise<void> {
  const at = pathOf(next.path)
  const expected = outcome(() => {
    switch (next.op) {
      case 'write':
        return model.write(next.path, text)
      case 'mkdir':
        return model.mkdir(next.path)
      case 'remove':
        return next.path.length === 0 ? undefined : model.remove(next.path)
      case 'unmount':
        return model.unmount(next.path)
      case 'mount':
        return model.mount(next.server, next.path, next.order, next.create)
      case 'bind':
        return model.bind(next.from, next.path, next.order, next.create)
    }
  })
  const found = await outcomeOf(
    async () => {
      switch (next.op) {
        case 'write':
          return void (await real.write(context, at, Buffer.from(text)))
        case 'mkdir':
          return void (await real.mkdir(context, at))
        case 'remove':
          return void (next.path.length === 0 ? undefined : await real.remove(context, at))
        case 'unmount':
          return real.unmount(context, at)
        case 'mount':
          return real.mount(context, servers[next.server]!, at, next)
        case 'bind':
          return real.bind(context, pathOf(next.from), at, next)
      }
    },
    ...('from' in next ? [at, pathOf(next.from)] : [at]),
  )
  expect([next, found]).toEqual([next, expected])
}

/** Every name, kind and text at every path, and the whole tree in pages of a few entries. */
async function sameEverywhere({ real, model }: Session): Promise<void> {
  for (const list of everyPath) {
    const at = pathOf(list)
    const expected = [outcome(() => model.list(list)), outcome(() => model.read(list)), outcome(() => model.kind(list))]
    const names = await outcomeOf(async () => (await pages(real, at, false)).map((stat) => stat.name), at)
    const text = await outcomeOf(async () => decoder.decode((await real.read(context, at)).bytes), at)
    const kind = await outcomeOf(async () => (await real.stat(context, at)).stat, at)
    expect([at, names, text, typeof kind === 'string' ? kind : kind.kind]).toEqual([at, ...expected])
    if (typeof kind !== 'string') expect(kind.name).toBe(list.at(-1) ?? '')
  }
  const tree = outcome(() => model.tree([]))
  const found = await outcomeOf(async () => (await pages(real, pathOf([]), true)).map((stat) => `${stat.name} ${stat.kind}`), pathOf([]))
  // A mount hidden by an earlier member may be what has no end: the namespace refuses it, the model never gets there.
  if (found !== 'loop' || tree === 'loop') expect(found).toEqual(tree)
}

async function pages(real: Namespace, at: Path, recursive: boolean): Promise<Stat[]> {
  const entries: Stat[] = []
  let cursor: string | undefined
  do {
    const page = await real.list(context, at, { recursive, limit: 2, cursor })
    entries.push(...page.entries)
    expect(page.entries.length).toBeLessThanOrEqual(2)
    cursor = page.next
  } while (cursor !== undefined)
  return entries
}

function pathOf(names: readonly string[]): Path {
  return parsePath(`/${names.join('/')}`)
}

function outcome<R>(run: () => R): R | string {
  try {
    return run()
  } catch (error) {
    if (error instanceof ModelError) return error.kind
    throw error
  }
}

/** Failures by kind; what the caller sees in them is under the path he gave, or above or below it. */
async function outcomeOf<R>(run: () => Promise<R>, ...at: Path[]): Promise<R | string> {
  try {
    return await run()
  } catch (error) {
    if (!isNineError(error)) throw error
    if (error.kind !== 'loop' && !at.some((path) => path.startsWith(error.path) || error.path.startsWith(path))) throw error
    return error.kind === 'not_found' || error.kind === 'not_directory' ? 'missing' : error.kind
  }
}
