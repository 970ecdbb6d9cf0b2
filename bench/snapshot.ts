/**
 * Snapshots of a store with many keys: written, verified, loaded and taken, backed up; beside a copy of the database's file.
 * `npx tsx bench/snapshot.ts [KEYS] [FOLDER]`: the folder decides which disk; default: 1,000,000 keys, the system's temporary folder.
 */
import { closeSync, copyFileSync, fdatasyncSync, mkdtempSync, openSync, rmSync, statSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { monitorEventLoopDelay } from 'node:perf_hooks'
import { parsePath } from '../namespace/path.ts'
import { Machine } from '../storage/apply/machine.ts'
import { openFileBlobs } from '../storage/blob/files.ts'
import { Lane } from '../storage/engine/lane.ts'
import { writeBackupFile } from '../storage/snapshot/backup.ts'
import { openSource } from '../storage/snapshot/files.ts'
import { installSnapshot } from '../storage/snapshot/install.ts'
import { loadSnapshot } from '../storage/snapshot/load.ts'
import { verifySnapshot } from '../storage/snapshot/verify.ts'
import { writeSnapshotFile } from '../storage/snapshot/write.ts'
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
  console.log(
    `${what.padEnd(44)} ${seconds.toFixed(2).padStart(7)} s ${rate.padStart(10)}  cpu ${((user + system) / 1e6).toFixed(1)} s  ${blocked}`,
  )
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
