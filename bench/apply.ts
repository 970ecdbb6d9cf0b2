/**
 * Apply and the codec of entries: nanoseconds an operation, in one thread, over a tree in memory; the best of four rounds.
 * Run: npx tsx bench/apply.ts [operations]
 */
import { decodeEntry, encodeEntry } from '../storage/apply/entry.ts'
import { Machine } from '../storage/apply/machine.ts'
import { parsePath } from '../namespace/path.ts'
import type { Command, Entry } from '../storage/model.ts'
import { MemoryTree } from '../test/storage/memory-tree.ts'

const operations = Number(process.argv[2] ?? 300_000)
const files = 1000
/** Entries made at once, as many as are in flight at a busy node: a longer list of them would measure the collector. */
const batch = 200
const value = new Uint8Array(256).fill(7)
const owner = 'owner'

const paths = Array.from({ length: files }, (_, i) => parsePath(`/service/state/file-${i}`))
const client = { id: 'c0ffee-0123456789abcdef', born: 1_700_000_000_000_000 }

function entryOf(index: number, command: Command, actor: string, isOnce: boolean): Entry {
  return {
    group: 1,
    term: 1,
    index,
    time: 1_700_000_000_000_000 + index,
    actor,
    groups: [],
    client: isOnce ? { ...client, settled: Math.max(0, index - 200) } : undefined,
    seq: isOnce ? index : undefined,
    digest: undefined,
    cause: undefined,
    trace: undefined,
    command,
  }
}

function measured(label: string, count: number, work: () => void): void {
  const start = performance.now()
  work()
  print(label, performance.now() - start, count)
}

function print(label: string, ms: number, count: number): void {
  console.log(`${label.padEnd(76)} ${((ms * 1e6) / count).toFixed(0).padStart(6)} ns`)
}

function applied(label: string, actor: string, isOnce: boolean): void {
  const tree = new MemoryTree(owner)
  const machine = new Machine({ owner })
  let index = 0
  const apply = (command: Command, by = owner): void => void machine.apply(tree, entryOf(++index, command, by, false))
  for (const path of paths) apply({ op: 'write', target: { path }, content: { kind: 'replace', bytes: value }, parents: true })
  apply({ op: 'setRights', target: { path: parsePath('/service') }, rights: [{ who: '*', rights: ['read', 'write'] }] })
  let best = Infinity
  for (let round = 0; round < 4; round++) {
    let spent = 0
    for (let done = 0; done < operations; done += batch) {
      const entries: Entry[] = []
      for (let i = 0; i < batch; i++) {
        const command: Command = { op: 'write', target: { path: paths[i % files]! }, content: { kind: 'replace', bytes: value } }
        entries.push(entryOf(++index, command, actor, isOnce))
      }
      const start = performance.now()
      for (const entry of entries) if (machine.apply(tree, entry).outcome.kind !== 'mutation') throw new Error('refused')
      spent += performance.now() - start
    }
    best = Math.min(best, spent)
  }
  print(`apply 256 B replace, 3 deep, ${label}`, best, operations)
}

function coded(): void {
  const command: Command = { op: 'write', target: { path: paths[0]! }, content: { kind: 'replace', bytes: value } }
  const entry = entryOf(123_456, command, owner, true)
  const encoded = new Uint8Array(encodeEntry(entry))
  for (const round of ['warming', 'measured']) {
    const encode = (): void => {
      for (let i = 0; i < operations; i++) encodeEntry(entry)
    }
    const decode = (): void => {
      for (let i = 0; i < operations; i++) decodeEntry(encoded)
    }
    if (round === 'measured') {
      measured(`encode entry of 256 B (${encoded.length} B)`, operations, encode)
      measured('decode', operations, decode)
    } else {
      encode()
      decode()
    }
  }
}

coded()
applied('owner', owner, false)
applied('owner, exactly once', owner, true)
applied('another principal, record 2 up, exactly once', 'alice', true)
