/** What only our own cluster is asked: how soon a full node is back, how fast an empty one catches up, what idle groups cost. */
import { randomBytes } from 'node:crypto'
import { setTimeout } from 'node:timers/promises'
import { contextFor } from '../namespace/context.ts'
import { limits } from '../namespace/limits.ts'
import { joinName, parsePath } from '../namespace/path.ts'
import type { Session } from '../sdk/session.ts'
import { OwnCluster } from './cluster-nodes.ts'
import { cpuSecondsOf, residentMebibytes } from './peers/cluster-process.ts'

export interface RecoverySizes {
  /** Values in the store, 256 B each. */
  readonly keys: number
  readonly groups: number
  readonly idleSeconds: number
}

export interface RecoveryFigures {
  readonly keys: number
  /** From the start of the process of a follower that was killed until its ready file is there, and until it answers a linearizable read. */
  readonly restartReadySeconds: number
  readonly restartReadSeconds: number
  readonly catchUp: CatchUpFigures
  readonly groups: number
  /** Of each node while nothing happens, of one core. */
  readonly idlePercent: readonly number[]
  readonly idleMebibytes: readonly number[]
}

/** Of a node whose disk is empty. */
export interface CatchUpFigures {
  /** What it is to have: bytes of keys and values. */
  readonly bytes: number
  /** From its start until it has all of that, and until it said that it is ready, which comes sooner. */
  readonly seconds: number
  readonly readySeconds: number
  readonly megabytesPerSecond: number
  /** Seconds of a core that was used meanwhile: by itself, by who leads, by the third. */
  readonly ownCpuSeconds: number
  readonly leaderCpuSeconds: number
  readonly otherCpuSeconds: number
}

const value = Buffer.alloc(256, 'abcdefghijklmnopqrstuvwxyz')
const batch = 500
const patience_ms = 300_000
const folder = parsePath('/data/many')
const marker = joinName(folder, 'marker')

export async function measureRecovery(sizes: RecoverySizes): Promise<RecoveryFigures> {
  return { ...(await full(sizes)), ...(await idle(sizes)) }
}

async function full({ keys }: RecoverySizes): Promise<Omit<RecoveryFigures, 'groups' | 'idlePercent' | 'idleMebibytes'>> {
  const cluster = await OwnCluster.start()
  try {
    const sessions = await connectAll(cluster)
    const leader = (await cluster.driver.ask({ do: 'leader' })).leader!
    const follower = (leader + 1) % cluster.size
    const bytes = await load(sessions[leader]!, keys)
    await cluster.driver.ask({ do: 'settled' })
    await sessions[follower]!.close()

    await cluster.processes.end(follower)
    const begun = performance.now()
    await cluster.restart(follower)
    const restartReadySeconds = since(begun)
    const back = await cluster.connect(follower)
    await back.client.stat(marker)
    const restartReadSeconds = since(begun)
    await back.close()

    const catchUp = await emptyNode(cluster, leader, follower, bytes, () => hasMarker(cluster, follower))

    for (const session of sessions) await session.close()
    return { keys, restartReadySeconds, restartReadSeconds, catchUp }
  } finally {
    await cluster.stop()
  }
}

/** The same without the rest: of many small values, or of as many bytes in values of `largeBytes` each, whose chunks have to be there too. */
export async function measureCatchUp({
  keys,
  largeBytes,
}: {
  readonly keys: number
  readonly largeBytes?: number
}): Promise<CatchUpFigures> {
  const cluster = await OwnCluster.start()
  try {
    const sessions = await connectAll(cluster)
    const leader = (await cluster.driver.ask({ do: 'leader' })).leader!
    const node = (leader + 1) % cluster.size
    const bytes = await (largeBytes === undefined ? load(sessions[leader]!, keys) : loadLarge(sessions[leader]!, keys, largeBytes))
    await cluster.driver.ask({ do: 'settled' })
    await sessions[node]!.close()
    const former = (await memberOf(sessions[leader]!, node))!.member
    const isThere = largeBytes === undefined ? () => hasMarker(cluster, node) : () => isVoter(sessions[leader]!, node, former)
    const figures = await emptyNode(cluster, leader, node, bytes, isThere)
    for (const session of sessions) await session.close()
    return figures
  } finally {
    await cluster.stop()
  }
}

/** @param isThere resolves when the node has everything */
async function emptyNode(
  cluster: OwnCluster,
  leader: number,
  node: number,
  bytes: number,
  isThere: () => Promise<void>,
): Promise<CatchUpFigures> {
  await cluster.processes.end(node)
  cluster.loseDisk(node)
  const other = cluster.size - leader - node
  const before = [leader, other].map((at) => cpuSecondsOf(cluster.processes.pid(at)))
  const begun = performance.now()
  cluster.begin(node)
  const ready = cluster.ready(node).then(() => since(begun))
  await ready
  await isThere()
  const seconds = since(begun)
  const [leaderCpu, otherCpu] = [leader, other].map((at, i) => cpuSecondsOf(cluster.processes.pid(at)) - before[i]!)
  return {
    bytes,
    seconds,
    readySeconds: await ready,
    megabytesPerSecond: bytes / 1e6 / seconds,
    ownCpuSeconds: cpuSecondsOf(cluster.processes.pid(node)),
    leaderCpuSeconds: leaderCpu!,
    otherCpuSeconds: otherCpu!,
  }
}

/** @returns bytes of keys and values written */
async function load({ client }: Session, keys: number): Promise<number> {
  const context = contextFor(client.principal, Infinity)
  await client.mkdir(folder)
  let next = 0
  let bytes = 0
  const worker = async (): Promise<void> => {
    for (let at = (next += batch) - batch; at < keys; at = (next += batch) - batch) {
      const then = Array.from({ length: Math.min(batch, keys - at) }, (_, i) => {
        const path = joinName(folder, `key-${at + i}`)
        bytes += path.length + value.length
        return { op: 'write' as const, path, bytes: value }
      })
      await client.server.txn(context, { if: [], then, else: [] })
    }
  }
  await Promise.all(Array.from({ length: 8 }, worker))
  await client.write(marker, 'all are there')
  return bytes
}

async function loadLarge({ client }: Session, count: number, largeBytes: number): Promise<number> {
  await client.mkdir(folder)
  const bytes = randomBytes(largeBytes)
  for (let i = 0; i < count; i++) {
    // So that no two have a chunk in common.
    for (let at = 0; at < largeBytes; at += limits.chunk_bytes / 2) bytes.writeUInt32LE(i, at)
    await client.write(joinName(folder, `large-${i}`), bytes)
  }
  await client.write(marker, 'all are there')
  return count * largeBytes
}

async function memberOf({ client }: Session, node: number): Promise<{ member: string; role: string } | undefined> {
  const rows = (await client.readText('/raft/data/members')).split('\n').filter((line) => line !== '')
  return rows.map((line) => JSON.parse(line) as { node: string; member: string; role: string }).find((row) => row.node === `n${node}`)
}

/** Resolves when the node votes as another than it was, which it does when it has all chunks. */
async function isVoter(session: Session, node: number, former: string): Promise<void> {
  for (const end = performance.now() + patience_ms; ;) {
    const row = await memberOf(session, node)
    if (row?.role === 'voter' && row.member !== former) return
    if (performance.now() > end) throw new Error(`an empty node is no voter after ${patience_ms / 1000} s`)
    await setTimeout(20)
  }
}

/** Resolves when the node itself, asking no other, has what was written last. It serves no session before it belongs to the cluster. */
async function hasMarker(cluster: OwnCluster, node: number): Promise<void> {
  await cluster.ready(node)
  const session = await cluster.connect(node)
  for (const end = performance.now() + patience_ms; ;) {
    if (await session.client.exists(marker, { consistency: 'stale' }).catch(() => false)) break
    if (performance.now() > end) throw new Error(`an empty node has not caught up in ${patience_ms / 1000} s`)
    await setTimeout(20)
  }
  await session.close()
}

/** Groups are what stores of services are. */
async function idle({ groups, idleSeconds }: RecoverySizes): Promise<Pick<RecoveryFigures, 'groups' | 'idlePercent' | 'idleMebibytes'>> {
  const cluster = await OwnCluster.start()
  try {
    const session = await cluster.connect(0)
    for (let group = 0; group < groups; group++) await session.control('service.store', { service: `idle-${group}` })
    await session.close()
    // An idle client is none of the cost.
    await cluster.driver.stop()
    // Until what followed the last of them (elections, checkpoints, the rest that quiet groups come to) is over.
    await setTimeout(idleSeconds * 1000)
    const pids = Array.from({ length: cluster.size }, (_, node) => cluster.processes.pid(node))
    const before = pids.map(cpuSecondsOf)
    const begun = performance.now()
    await setTimeout(idleSeconds * 1000)
    const seconds = since(begun)
    return {
      groups,
      idlePercent: pids.map((pid, node) => ((cpuSecondsOf(pid) - before[node]!) / seconds) * 100),
      idleMebibytes: pids.map(residentMebibytes),
    }
  } finally {
    await cluster.stop()
  }
}

function connectAll(cluster: OwnCluster): Promise<Session[]> {
  return Promise.all(Array.from({ length: cluster.size }, (_, node) => cluster.connect(node)))
}

function since(begun: number): number {
  return (performance.now() - begun) / 1000
}
