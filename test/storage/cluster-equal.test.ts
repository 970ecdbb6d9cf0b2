/**
 * Replicas are equal: the same entries give the same outcomes and the same state, whatever each of them has saved, collected, forgotten,
 * opened anew or holds open.
 */
import fc from 'fast-check'
import { expect, it } from 'vitest'
import { limits } from '../../namespace/limits.ts'
import type { Path } from '../../namespace/path.ts'
import { rootIno, type Command, type NodeRecord, type TreeCommand } from '../../storage/model.ts'
import { textOf } from './apply-machine.ts'
import { at, contextOf, Pair, type Replica } from './cluster-pair.ts'

const paths = ['a', 'b', 'c', 'd/a', 'd/b', 'd/e/a'].map((path) => at(`/${path}`))
const leases = ['l1', 'l2', 'l3']
const actors = ['owner', 'owner', 'owner', 'ann']

const path = fc.constantFrom(...paths)
const ino = fc.integer({ min: 1, max: 12 })
/** By path or by number, the number of what was removed included. */
const target = fc.oneof(
  { weight: 3, arbitrary: path.map((to) => ({ path: to })) },
  { weight: 2, arbitrary: ino.map((number) => ({ path: at('/a'), ino: number })) },
)
/** Small, in a row of its own, as large as a record takes. */
const size = fc.constantFrom(0, 10, 100, 300, 700, 700, 3_000, limits.inline_bytes_max)
const value = fc.tuple(size, fc.integer({ min: 1, max: 255 })).map(([length, byte]) => new Uint8Array(length).fill(byte))
const lease = fc.constantFrom(undefined, undefined, undefined, undefined, undefined, ...leases)
const ifMatch = fc.constantFrom(
  undefined,
  undefined,
  undefined,
  undefined,
  undefined,
  undefined,
  'none' as const,
  { path: 2, version: 1 },
  { path: 3, version: 2 },
)
const flag = fc.boolean()
const mostly = fc.constantFrom(true, true, true, true, false)

const treeCommand: fc.Arbitrary<TreeCommand> = fc.oneof(
  fc.record({
    op: fc.constant('write' as const),
    target,
    content: fc.oneof(
      value.map((bytes) => ({ kind: 'replace' as const, bytes })),
      value.map((bytes) => ({ kind: 'append' as const, bytes: bytes.subarray(0, 500) })),
      value.map((bytes) => ({ kind: 'splice' as const, offset: 5, bytes: bytes.subarray(0, 900) })),
    ),
    parents: mostly,
    lease,
    ifMatch,
    mustExist: fc.constant(undefined),
  }),
  fc.record({ op: fc.constantFrom('create' as const, 'mkdir' as const), target: path.map((to) => ({ path: to })), parents: mostly, lease }),
  fc.record({ op: fc.constant('remove' as const), target, recursive: flag, ifMatch }),
  fc.record({ op: fc.constant('remove' as const), target, recursive: fc.constant(true) }),
  fc.record({ op: fc.constant('rename' as const), target, to: path, replace: mostly, parents: mostly }),
  fc.record({
    op: fc.constant('setStat' as const),
    target,
    mode: fc.constantFrom(undefined, 0o600),
    size: fc.constantFrom(undefined, 3, 2_000),
  }),
  fc.record({
    op: fc.constant('setRights' as const),
    target,
    rights: fc.constantFrom(
      undefined,
      [{ who: 'ann', rights: ['read', 'write', 'create', 'list', 'remove'] as const }],
      [{ who: 'ann', rights: ['list'] as const }],
    ),
  }),
)

const command: fc.Arbitrary<Command> = fc.oneof(
  { weight: 12, arbitrary: treeCommand },
  {
    weight: 3,
    arbitrary: fc.record({
      op: fc.constant('txn' as const),
      if: fc.array(fc.record({ path, is: fc.constantFrom('exists' as const, 'none' as const) }), { maxLength: 1 }),
      then: fc.array(fc.oneof(treeCommand, fc.record({ op: fc.constantFrom('stat' as const, 'read' as const), path })), { maxLength: 3 }),
      else: fc.array(fc.record({ op: fc.constantFrom('stat' as const, 'read' as const), path }), { maxLength: 1 }),
    }),
  },
  {
    weight: 2,
    arbitrary: fc.record({ op: fc.constant('grantLease' as const), lease: fc.constantFrom(...leases), ttlMs: fc.constant(1000) }),
  },
  { weight: 1, arbitrary: fc.record({ op: fc.constant('endLease' as const), lease: fc.constantFrom(...leases), expired: flag }) },
)

/** What one of the two does between entries that the other does not. */
const upkeep = fc.constantFrom('checkpoint' as const, 'collect' as const, 'restart' as const)

type Step =
  | { readonly kind: 'entry'; readonly command: Command; readonly actor: string; readonly client: number; readonly isRetry: boolean }
  | { readonly kind: 'upkeep'; readonly on: 0 | 1; readonly what: 'checkpoint' | 'collect' | 'restart' }
  | { readonly kind: 'open'; readonly path: Path }

const step: fc.Arbitrary<Step> = fc.oneof(
  {
    weight: 8,
    arbitrary: fc.record({
      kind: fc.constant('entry' as const),
      command,
      actor: fc.constantFrom(...actors),
      client: fc.integer({ min: 0, max: 3 }),
      isRetry: fc.integer({ min: 0, max: 5 }).map((n) => n === 0),
    }),
  },
  {
    weight: 2,
    arbitrary: fc.record({ kind: fc.constant('upkeep' as const), on: fc.constantFrom(1 as const, 1 as const, 0 as const), what: upkeep }),
  },
  { weight: 1, arbitrary: fc.record({ kind: fc.constant('open' as const), path }) },
)

it('after any entries, outcomes and state are the same', { timeout: 1_200_000 }, async () => {
  const numRuns = Number(process.env['NINE_EQUAL_RUNS'] ?? 25)
  await fc.assert(
    fc.asyncProperty(fc.array(step, { minLength: 60, maxLength: 150, size: 'max' }), async (steps) => {
      const pair = await new Pair().open()
      try {
        await play(pair, steps)
        const [a, b] = pair.nodes
        expect(b.outcomes.length).toBe(pair.log.length)
        expect(textOf(b.outcomes)).toBe(textOf(a.outcomes))
        expect(await stateOf(b)).toEqual(await stateOf(a))
      } finally {
        await pair.close()
      }
    }),
    { numRuns },
  )
})

async function play(pair: Pair, steps: readonly Step[]): Promise<void> {
  const seqs = [0, 0, 0, 0]
  await pair.a.store.setRights(contextOf(), at('/'), [{ who: 'ann', rights: ['read', 'write', 'create', 'list', 'remove'] }])
  for (const each of steps) {
    if (each.kind === 'upkeep') {
      const node = pair.nodes[each.on]
      if (each.what === 'checkpoint') await node.checkpoint()
      // One of the two never forgets.
      else if (each.what === 'collect') await pair.b.collect()
      else await node.restart()
    } else if (each.kind === 'open') {
      // Only one of the two: its node stays there when it is removed.
      await pair.a.store.open(contextOf(), each.path, { read: true }).catch(() => undefined)
    } else {
      const { client } = each
      const seq = each.isRetry ? Math.max(1, seqs[client]!) : ++seqs[client]!
      const identity = client === 0 ? undefined : { id: `c${client}`, born: 5, settled: Math.max(0, seqs[client]! - 4) }
      pair.commit({
        group: 1,
        actor: each.actor,
        groups: [],
        client: identity,
        seq: identity === undefined ? undefined : seq,
        digest: undefined,
        cause: undefined,
        trace: undefined,
        command: each.command,
      })
    }
  }
}

/** All that a replica answers from: what is reachable, and the machine's own rows, once all of it was saved and opened anew. */
async function stateOf(node: Replica): Promise<unknown> {
  const live = reachable(node)
  await node.checkpoint()
  await node.restart()
  expect(reachable(node)).toEqual(live)
  const saved = node.saved.map(([key, bytes]) => [key, Buffer.from(bytes).toString('hex')] as const).sort(([x], [y]) => (x < y ? -1 : 1))
  return { revision: node.machine.revision, nextIno: node.tree.nextIno, live, saved }
}

function reachable(node: Replica): unknown[] {
  const { newest } = node.tree
  const found: unknown[] = []
  const visit = (record: NodeRecord): void => {
    const { content } = record
    found.push(textOf({ ...record, content: content.kind === 'inline' ? { kind: 'inline', bytes: content.bytes } : content }))
    for (const { ino: child, name, since } of newest.children(record.ino, '', 1000)) {
      found.push([name, child, since])
      visit(newest.node(child)!)
    }
  }
  visit(newest.node(rootIno)!)
  return found
}

it('what was removed is not there by its number, whichever of them still keeps it', async () => {
  const pair = await new Pair().open()
  try {
    const { a, b } = pair
    await a.store.write(contextOf(), at('/f'), new Uint8Array(10))
    const { ino } = a.tree.newest.node(2)!
    await a.store.remove(contextOf(), at('/f'))
    for (let i = 0; i < 5; i++) await a.store.write(contextOf(), at('/g'), new Uint8Array(400))
    await b.collect()
    expect(b.tree.newest.node(ino)).toBeUndefined()
    expect(a.tree.newest.node(ino)).toBeDefined()
    const target = { path: at('/f'), ino }
    const entry = {
      group: 1,
      actor: 'owner',
      groups: [],
      client: undefined,
      seq: undefined,
      digest: undefined,
      cause: undefined,
      trace: undefined,
    }
    pair.commit({ ...entry, command: { op: 'write', target, content: { kind: 'append', bytes: new Uint8Array(1) } } })
    pair.commit({ ...entry, command: { op: 'setStat', target, mode: 0o600 } })
    pair.commit({ ...entry, command: { op: 'remove', target } })
    expect(textOf(b.outcomes)).toBe(textOf(a.outcomes))
  } finally {
    await pair.close()
  }
})
