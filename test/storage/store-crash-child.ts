/**
 * Opens a data folder, checks what was acknowledged before the last crash, then writes until it is killed.
 *
 * In: one line of JSON, what was acknowledged. Out: `bad <what>`, `ready`, then one line an acknowledgement: kind, writer,
 * number.
 */
import { createInterface } from 'node:readline'
import type { Context } from '../../namespace/context.ts'
import { parsePath, type Path } from '../../namespace/path.ts'
import { openEngine } from '../../storage/engine/engine.ts'
import type { Store } from '../../storage/store/store.ts'

/** Last acknowledged number by writer. */
export interface Acknowledged {
  readonly append: Record<string, number>
  readonly value: Record<string, number>
  readonly big: Record<string, number>
}

const [dir, writersText, bigWritersText] = process.argv.slice(2)
const writers = Number(writersText)
const bigWriters = Number(bigWritersText)

const owner: Context = { principal: { name: 'owner', groups: [] }, deadline: Infinity }

function tell(line: string): void {
  process.stdout.write(`${line}\n`)
}

/** The value number `n` of a writer: any other bytes are torn. */
function valueOf(writer: number, n: number, bytes: number): Buffer {
  const head = `${writer} ${n} `
  return Buffer.from(head + String.fromCharCode(97 + (n % 26)).repeat(bytes - head.length))
}

function bigSize(writer: number, n: number): number {
  return 150_000 + ((writer * 7919 + n * 104_729) % 900_000)
}

async function readAll(store: Store, path: Path): Promise<Buffer> {
  try {
    return Buffer.from((await store.read(owner, path)).bytes)
  } catch (error) {
    if ((error as { kind?: string }).kind === 'not_found') return Buffer.alloc(0)
    throw error
  }
}

/**
 * What was acknowledged, or the write under way at the crash, is there and whole. What is found now counts as acknowledged:
 * the next write may become durable and this process be killed before it has said so, which makes two past the parent's count.
 */
async function checkValue(
  kind: 'value' | 'big',
  store: Store,
  writer: number,
  acked: number,
  size: (n: number) => number,
): Promise<number> {
  const path = parsePath(`/${kind}/${writer}`)
  const bytes = await readAll(store, path)
  const n = bytes.length === 0 ? 0 : Number(bytes.subarray(0, 40).toString().split(' ')[1])
  if (n > 0 && !bytes.equals(valueOf(writer, n, size(n)))) tell(`bad ${path} is torn`)
  if (n !== acked && n !== acked + 1) tell(`bad ${path} shows ${n}, acknowledged was ${acked}`)
  tell(`${kind} ${writer} ${n}`)
  return n
}

function appendContext(writer: number, seq: number): Context {
  return { ...owner, client: { id: `client-${writer}`, born: 1, settled: seq - 1 }, seq }
}

async function append(store: Store, writer: number, n: number): Promise<void> {
  await store.write(appendContext(writer, n), parsePath(`/append/${writer}`), Buffer.from(`${n}\n`), { at: 'append', parents: true })
}

/** Whatever happened to the append under way at the crash, its retry leaves it there exactly once. */
async function checkAppends(store: Store, writer: number, acked: number): Promise<number> {
  await append(store, writer, acked + 1)
  const found = (await readAll(store, parsePath(`/append/${writer}`))).toString()
  const expected = Array.from({ length: acked + 1 }, (_, i) => `${i + 1}\n`).join('')
  if (found !== expected) tell(`bad /append/${writer} is ${JSON.stringify(found)}, acknowledged was ${acked}`)
  tell(`append ${writer} ${acked + 1}`)
  return acked + 1
}

async function main(acked: Acknowledged): Promise<void> {
  const engine = await openEngine({
    dir: dir!,
    owner: 'owner',
    tuning: {
      overlayBytesMax: 256 * 1024,
      checkpointMs: 50,
      walSegmentBytes: 1024 * 1024,
      blobGraceMs: 0,
      historyMsMax: 100,
      collectMs: 3_600_000,
    },
  })
  const store = engine.hasStore('data') ? engine.store('data') : await engine.createStore('data')
  const loops: Promise<void>[] = []
  for (let writer = 0; writer < writers; writer++) {
    if (writer % 2 === 0) {
      let n = await checkAppends(store, writer, acked.append[writer] ?? 0)
      loops.push(
        forever(async () => {
          await append(store, writer, ++n)
          tell(`append ${writer} ${n}`)
        }),
      )
    } else {
      const path = parsePath(`/value/${writer}`)
      let n = await checkValue('value', store, writer, acked.value[writer] ?? 0, () => 256)
      loops.push(
        forever(async () => {
          await store.write(owner, path, valueOf(writer, ++n, 256), { parents: true })
          tell(`value ${writer} ${n}`)
        }),
      )
    }
  }
  for (let writer = 0; writer < bigWriters; writer++) {
    const path = parsePath(`/big/${writer}`)
    let n = await checkValue('big', store, writer, acked.big[writer] ?? 0, (k) => bigSize(writer, k))
    loops.push(
      forever(async () => {
        n++
        await store.write(owner, path, valueOf(writer, n, bigSize(writer, n)), { parents: true })
        tell(`big ${writer} ${n}`)
      }),
    )
  }
  tell('ready')
  if (bigWriters > 0) loops.push(forever(async () => void (await engine.collect())))
  await Promise.all(loops)
}

async function forever(work: () => Promise<void>): Promise<void> {
  for (;;) await work()
}

createInterface({ input: process.stdin }).once('line', (line) => {
  main(JSON.parse(line) as Acknowledged).catch((error: unknown) => {
    tell(`bad ${error instanceof Error ? error.stack?.replaceAll('\n', ' | ') : String(error)}`)
    process.exit(1)
  })
})
