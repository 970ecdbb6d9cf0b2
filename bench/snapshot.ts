/**
 * Snapshots of a store with many keys: written, verified, loaded and taken, backed up, brought to another node; beside a copy of the
 * database's file.
 * `npx tsx bench/snapshot.ts [KEYS] [FOLDER]`: the folder decides which disk; default: 1,000,000 keys, the system's temporary folder.
 */
import { closeSync, copyFileSync, fdatasyncSync, mkdtempSync, openSync, rmSync, statSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { monitorEventLoopDelay } from 'node:perf_hooks'
import { parsePath } from '../namespace/path.ts'
import type { PeerService, Snapshots, SnapshotSink, SnapshotSource } from '../services/peer/ports.ts'
import { startPeer } from '../services/peer/service.ts'
import { Machine } from '../storage/apply/machine.ts'
import { openFileBlobs } from '../storage/blob/files.ts'
import { Lane } from '../storage/engine/lane.ts'
import { writeBackupFile } from '../storage/snapshot/backup.ts'
import { openSource } from '../storage/snapshot/files.ts'
import { GrowingFile } from '../storage/snapshot/growing-file.ts'
import { installSnapshot } from '../storage/snapshot/install.ts'
import { loadSnapshot } from '../storage/snapshot/load.ts'
import { verifySnapshot } from '../storage/snapshot/verify.ts'
import { writeSnapshot, writeSnapshotFile } from '../storage/snapshot/write.ts'
import { openEnvironment, type Environment } from '../storage/tree/environment.ts'

const keys = Number(process.argv[2] ?? 1_000_000)
const value_bytes = 256
const files_a_directory = 1_000
const dir = mkdtempSync(join(process.argv[3] ?? tmpdir(), 'nine-bench-snapshot-'))
const owner = 'owner'
const identity = { store: 'store', incarnation: 'first', name: 'data', owner, group: 1 }

async function openLane(name: string): Promise<{ environment: Environment; lane: Lane }> {
  const environment = await openEnvironment({ dir: join(dir, name, 'tree'), historyDir: join(dir, name, 'history') })
  const tree = await environment.tree(1, { owner })
  const { appliedIndex, revision } = tree.meta()
  return { environment, lane: new Lane(1, 'data', new Machine({ owner }), tree, 'log', appliedIndex, revision) }
}

async function fill(lane: Lane): Promise<void> {
  const bytes = Buffer.alloc(value_bytes, 7)
  for (let i = 0; i < keys; i++) {
    const index = lane.nextIndex++
    const path = parsePath(`/d${Math.floor(i / files_a_directory)}/file${i}`)
    bytes.writeUInt32LE(i, 0)
    const command = { op: 'write', target: { path }, content: { kind: 'replace', bytes }, parents: true } as const
    const entry = { group: 1, term: 1, index, time: index, actor: owner, groups: [], command }
    lane.apply({ ...entry, client: undefined, seq: undefined, digest: undefined, cause: undefined, trace: undefined }, index)
    if (lane.tree.overlayBytes > 32 * 1024 * 1024) await lane.save()
  }
  await lane.save()
}

async function measure(what: string, bytes: () => number, run: () => unknown): Promise<void> {
  const delay = monitorEventLoopDelay({ resolution: 1 })
  delay.enable()
  const from = performance.now()
  const cpu = process.cpuUsage()
  await run()
  const seconds = (performance.now() - from) / 1000
  const { user, system } = process.cpuUsage(cpu)
  delay.disable()
  const rate = `${(bytes() / seconds / 1e6).toFixed(0)} MB/s`
  const blocked = `event loop p99 ${(delay.percentile(99) / 1e6).toFixed(0)} ms, most ${(delay.max / 1e6).toFixed(0)} ms`
  const cost = `cpu ${(((user + system) * 1000) / bytes()).toFixed(1)} s/GB`
  console.log(`${what.padEnd(44)} ${seconds.toFixed(2).padStart(7)} s ${rate.padStart(10)}  ${cost.padStart(13)}  ${blocked}`)
}

/** As between two nodes: written to a file, sent from it while it grows, received into another, loaded from there while that grows. */
async function move(from: Lane, to: Awaited<ReturnType<typeof openLane>>, onSent: (bytes: number) => void): Promise<void> {
  const absent = (): Promise<never> => Promise.reject(new Error('not here'))
  const meta = { index: from.appliedIndex, term: 1, configuration: { voters: ['a'], outgoing: [], learners: [], demoted: [] } }
  const sent = await GrowingFile.open(join(dir, 'sent'), { isDurable: false })
  const received = await GrowingFile.open(join(dir, 'received'))
  const addresses = new Map<string, string>()
  const nodeOf = (self: string, snapshots: Snapshots): Promise<PeerService> =>
    startPeer({
      ...{ self, snapshots, secret: 'bench', cluster: 'bench', listen: { host: '127.0.0.1', port: 0 }, onRequest: absent, onCall: absent },
      addressOf: (member) => addresses.get(member),
      inbound: { receive: () => undefined, peerLost: () => undefined },
      chunks: { get: absent, put: absent, touch: absent },
    })
  const read = async (offset: number, length: number): Promise<Uint8Array> => {
    const bytes = Buffer.allocUnsafeSlow(length)
    return bytes.subarray(0, await sent.read(bytes, offset))
  }
  const open = async (): Promise<SnapshotSource> => {
    void writeSnapshot(from.tree, identity, sent).then(
      () => sent.end(),
      (error: Error) => sent.fail(error),
    )
    return { id: 's', meta, size: Infinity, read, close: () => sent.close() }
  }
  const receive = async (): Promise<SnapshotSink> => {
    let progress = 0
    const loading = loadSnapshot(to.environment, received.follow(), { progress: () => void progress++ })
    const finish = async (): Promise<void> => {
      await received.end()
      await installSnapshot(to.lane, await loading)
      onSent(received.length)
      await received.close()
    }
    return {
      offset: 0,
      get progress() {
        return progress
      },
      write: (bytes) => received.write(bytes),
      finish,
      close: () => received.close(),
    }
  }
  const nodes = [await nodeOf('a', { open, receive: absent }), await nodeOf('b', { open: absent, receive })] as const
  addresses.set('b', nodes[1].address)
  if (!(await nodes[0].sendSnapshot(1, { kind: 'install', from: 'a', to: 'b', term: 1, meta }))) throw new Error('it did not arrive')
  for (const node of nodes) await node.close()
}

const { environment, lane } = await openLane('from')
await measure(
  `fill ${keys} keys of ${value_bytes} B`,
  () => keys * value_bytes,
  () => fill(lane),
)
const file = join(dir, 'snapshot')
const size = (path: string) => (): number => statSync(path).size
await measure('snapshot to a file, with history', size(file), () => writeSnapshotFile(lane.tree, identity, file))
const short = join(dir, 'short')
await measure('snapshot to a file, without history', size(short), () => writeSnapshotFile(lane.tree, identity, short, { history: false }))
await measure('the same again, not synced', size(short), () =>
  writeSnapshotFile(lane.tree, identity, short, { history: false, isDurable: false }),
)
await measure('verify', size(file), () => verifySnapshot(file))
const blobs = await openFileBlobs({ folder: join(dir, 'blobs') })
const backup = join(dir, 'backup')
await measure('backup to a file', size(backup), () => writeBackupFile({ tree: lane.tree, blobs, identity }, backup))
for (const path of [file, short]) {
  const to = await openLane(`to-${path === file}`)
  const source = await openSource(path)
  await measure(`install into an empty node${path === file ? '' : ', without history'}`, size(path), async () => {
    await installSnapshot(to.lane, await loadSnapshot(to.environment, source))
  })
  await source.close()
  await to.environment.close()
}
const other = await openLane('to-peer')
let moved = 0
await measure(
  'all of it between two peers, in one process',
  () => moved,
  () => move(lane, other, (bytes) => (moved = bytes)),
)
await other.environment.close()
const database = join(dir, 'from', 'tree', 'tree.mdb')
const copy = join(dir, 'copy')
await measure('peer: copy of the database file, synced', size(copy), () => {
  copyFileSync(database, copy)
  const fd = openSync(copy, 'r')
  fdatasyncSync(fd)
  closeSync(fd)
})
await environment.close()
await blobs.close()
rmSync(dir, { recursive: true })
