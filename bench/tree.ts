/**
 * The tree by itself: durable-size writes with their checkpoints, lookups, pages of a directory of a million names.
 * Run: npx tsx bench/tree.ts [names]
 */
import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { monitorEventLoopDelay, performance } from 'node:perf_hooks'
import { limits } from '../namespace/limits.ts'
import type { Path } from '../namespace/path.ts'
import { rootIno, type Ino, type NodeRecord } from '../storage/model.ts'
import { openEnvironment } from '../storage/tree/environment.ts'
import type { Tree } from '../storage/tree/tree.ts'

const names = Number(process.argv[2] ?? 1_000_000)
const dir = mkdtempSync(join(process.env['NINE_BENCH_DIR'] ?? tmpdir(), 'nine-bench-tree-'))
const bytes = Buffer.alloc(256, 7)
let revision = 0
let saving: Promise<void> | undefined
let longest = 0

function file(ino: Ino, name: string, before?: NodeRecord): NodeRecord {
  return {
    ino,
    since: revision,
    kind: 'file',
    parent: rootIno,
    name,
    version: 1 + (before?.version ?? 0),
    revision,
    createdRevision: before?.createdRevision ?? revision,
    mode: 0o644,
    owner: 'ann',
    group: 'ann',
    modifiedBy: 'ann',
    createdAt: 1_700_000_000_000_000,
    modifiedAt: 1_700_000_000_000_000 + revision,
    contentType: undefined,
    lease: undefined,
    rights: undefined,
    content: { kind: 'inline', bytes },
  }
}

function write(tree: Tree, name: string): void {
  const transaction = tree.begin(++revision)
  const known = transaction.child(rootIno, name)
  const before = known === undefined ? undefined : transaction.node(known)
  const ino = known ?? transaction.nextIno()
  const node = file(ino, name, before)
  transaction.put(node)
  if (known === undefined) transaction.link(rootIno, name, ino)
  const images = transaction.commit()
  const path = `/${name}` as Path
  const type = known === undefined ? 'create' : 'change'
  const event = { type, path, from: undefined, subtree: false, node, previous: before } as const
  tree.history.append({ revision, time: node.modifiedAt, actor: 'ann', cause: undefined, events: [event], images })
}

/** As the engine does: a checkpoint when the overlay is full, writers wait at twice that. */
async function writes(tree: Tree, label: string, count: number, nameOf: (i: number) => string): Promise<void> {
  const delay = monitorEventLoopDelay({ resolution: 1 })
  const cpu = process.cpuUsage()
  const start = performance.now()
  longest = 0
  let last = start
  for (let i = 0; i < count; i++) {
    write(tree, nameOf(i))
    if (i % 200 !== 199) continue
    if (saving === undefined && tree.overlayBytes > limits.overlay_bytes_max) {
      delay.enable()
      saving = tree.checkpoint({ appliedIndex: revision, revision, meta: [] }).then(() => {
        saving = undefined
      })
    }
    while (tree.overlayBytes > 2 * limits.overlay_bytes_max && saving !== undefined) {
      await new Promise((resolve) => setImmediate(resolve))
      longest = Math.max(longest, performance.now() - last)
      last = performance.now()
    }
    await new Promise((resolve) => setImmediate(resolve))
    longest = Math.max(longest, performance.now() - last)
    last = performance.now()
  }
  await saving
  await tree.checkpoint({ appliedIndex: revision, revision, meta: [] })
  const seconds = (performance.now() - start) / 1000
  const { user, system } = process.cpuUsage(cpu)
  delay.disable()
  say(label, `${Math.round(count / seconds)}/s, CPU ${((user + system) / count).toFixed(1)} µs each, longest turn ${longest.toFixed(0)} ms`)
}

function measure(label: string, count: number, work: () => void): void {
  work()
  const start = performance.now()
  const cpu = process.cpuUsage()
  work()
  const ms = performance.now() - start
  const { user, system } = process.cpuUsage(cpu)
  say(label, `${((1e3 * ms) / count).toFixed(2)} µs each, CPU ${((user + system) / count).toFixed(2)} µs`)
}

function say(label: string, text: string): void {
  const rss = Math.round(process.memoryUsage.rss() / 2 ** 20)
  console.log(`${label.padEnd(46)} ${text} (resident ${rss} MiB)`)
}

const environment = await openEnvironment({ dir: join(dir, 'tree'), historyDir: join(dir, 'history') })
const tree = await environment.tree(1, { owner: 'ann' })
tree.meta()
const nameOf200 = Array.from({ length: 200 }, (_, i) => `file-${String(i).padStart(8, '0')}`)
const nameOf = (i: number): string => `file-${String(i).padStart(8, '0')}`
await writes(tree, `create ${names} files of 256 B`, names, nameOf)
await writes(tree, 'overwrite 10,000 of them, 500,000 times', 500_000, (i) => nameOf((i * 7919) % 10_000))
await writes(tree, `overwrite all of them at random, 200,000 times`, 200_000, (i) => nameOf((i * 7_368_787) % names))

measure('newest child + node, cached', 100_000, () => {
  for (let i = 0; i < 100_000; i++) tree.newest.node(tree.newest.child(rootIno, nameOf200[i % 200]!)!)
})
let at = 0
measure('newest child + node, from LMDB', 100_000, () => {
  for (let i = 0; i < 100_000; i++, at = (at + 104_729) % names) tree.newest.node(tree.newest.child(rootIno, nameOf(at))!)
})
for (const after of ['', nameOf(names >> 1)]) {
  measure(`page of 1,000 after "${after}", with its records`, 1, () => {
    for (const { ino } of tree.newest.children(rootIno, after, 1000)) tree.newest.node(ino)
  })
}
for (let i = 0; i < 50_000; i++) write(tree, `${nameOf((i * 7919) % names)}-new`)
measure('the same with 50,000 new names in the overlay', 1, () => {
  for (const { ino } of tree.newest.children(rootIno, nameOf(names >> 1), 1000)) tree.newest.node(ino)
})
const past = tree.at(names + 10)
measure('page of 1,000 as it was before the overwrites', 1, () => {
  for (const { ino } of past.children(rootIno, '', 1000)) past.node(ino)
})
measure('history read of 1,000 revisions, each', 1000, () => void tree.history.read(revision - 20_000, 1000))
await environment.close()
const start = performance.now()
const again = await openEnvironment({ dir: join(dir, 'tree'), historyDir: join(dir, 'history') })
await again.tree(1, { owner: 'ann' })
say('open again', `${(performance.now() - start).toFixed(0)} ms`)
await again.close()
rmSync(dir, { recursive: true })
