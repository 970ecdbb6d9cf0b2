/**
 * Every failpoint at which a node is killed, who is killed there, and what brings it there while clients go on. Load alone passes most.
 *
 * S1 Each point of `failpointNames` that is no number stands here, or among those of `ofRestores` or `elsewhere`; the test looks.
 */
import type { Failpoint } from '../../namespace/failpoint.ts'

/** `joiner`: a node that has lost its disk. `any`: who leads does not matter. */
export type Role = 'leader' | 'follower' | 'joiner' | 'any'

/** `load`: what the clients do; `values`: large values through the victim, or through another node; `save`, `defrag`: that is asked for. */
export type Cause = 'load' | 'values' | 'values elsewhere' | 'save' | 'defrag' | 'lead' | 'another leads' | 'another joins' | 'start'

export interface Step {
  readonly point: Failpoint
  readonly role: Role
  readonly cause: Cause
  /** It is killed at the 1st to this passing. */
  readonly timesMax: number
}

const ofLeader = steps(['propose.taken', 'propose.received', 'receive.accepted'], ['leader'], 'load', 40)
const ofFollower = steps(['propose.forward', 'receive.append'], ['follower'], 'load', 40)
const ofBoth = steps(
  [
    'wal.frame.before',
    'wal.write.half',
    'wal.frame.after',
    'log.done',
    'send.before',
    'send.after',
    'apply.before',
    'apply.after',
    'apply.answered',
  ],
  ['leader', 'follower'],
  'load',
  40,
)
const ofVotes = [
  ...steps(['vote.before', 'vote.after', 'receive.vote'], ['follower'], 'another leads', 1),
  ...steps(['vote.before', 'vote.after', 'receive.vote_reply'], ['follower'], 'lead', 1),
]
const ofCheckpoints = steps(
  ['checkpoint.before', 'checkpoint.synced', 'checkpoint.committed', 'cut.before', 'cut.after'],
  ['leader', 'follower'],
  'save',
  3,
)
const ofCompaction = steps(
  ['compact.copy', 'compact.copied', 'compact.before', 'compact.renamed', 'compact.synced'],
  ['leader', 'follower'],
  'defrag',
  2,
)
const ofSegments = steps(['wal.rolled', 'cut.durable'], ['any'], 'save', 2)
const ofChunks = [
  ...steps(['chunk.synced', 'chunk.renamed', 'chunk.done'], ['leader', 'follower'], 'values', 6),
  ...steps(['chunk.synced', 'chunk.renamed', 'chunk.done'], ['follower'], 'values elsewhere', 6),
  ...steps(['chunks.spread'], ['leader', 'follower'], 'values', 3),
]
const ofSnapshots = [
  ...steps(['snapshot.write.before', 'snapshot.write.after', 'snapshot.send'], ['leader'], 'another joins', 1),
  ...steps(['snapshot.write.block'], ['leader'], 'another joins', 4),
  ...steps(['snapshot.load'], ['joiner'], 'start', 4),
  ...steps(
    ['snapshot.part', 'snapshot.finish', 'snapshot.loaded', 'snapshot.received', 'install.before', 'install.taken', 'install.done'],
    ['joiner'],
    'start',
    1,
  ),
]
const ofMembers = [
  ...steps(['configuration.before', 'configuration.after', 'configuration.applied'], ['leader', 'follower'], 'another joins', 4),
  ...steps(['configuration.applied'], ['joiner'], 'start', 2),
  ...steps(['stores.json.before', 'stores.json.after'], ['joiner'], 'start', 3),
  ...steps(['cluster.json.before', 'cluster.json.after'], ['joiner'], 'start', 2),
]

/** In groups that are played on one cluster, one after the other. */
export const stepGroups: readonly { readonly name: string; readonly steps: readonly Step[] }[] = [
  { name: 'the way of a write', steps: [...ofLeader, ...ofFollower, ...ofBoth] },
  { name: 'votes', steps: ofVotes },
  { name: 'checkpoints and the cut of the log', steps: [...ofCheckpoints, ...ofCompaction, ...ofSegments] },
  { name: 'chunks of large values', steps: ofChunks },
  { name: 'snapshots and members', steps: [...ofSnapshots, ...ofMembers] },
]

/**
 * Points of a restore, at which test/cluster/restore-running.test.ts kills nodes: here is nothing that restores a store, which would take back
 * what clients were answered.
 */
export const ofRestores: readonly Failpoint[] = [
  'restore.checked',
  'restore.claimed',
  'restore.load',
  'restore.take',
  'restore.taken',
  'restore.made',
]

/** Points at which no node is killed: these are for errors and delays, right beside others that are for killing. */
export const elsewhere: readonly Failpoint[] = ['wal.write', 'wal.sync', 'wal.fill', 'tree.write', 'chunk.write', 'install.take']

/** Points that are played in round `round`: of a point with several ways one a round, in turn. */
export function ofRound(all: readonly Step[], round: number): Step[] {
  const points = [...new Set(all.map(({ point }) => point))]
  return points.map((point, at) => {
    const ways = all.filter((step) => step.point === point)
    return ways[(at + round) % ways.length]!
  })
}

function steps(points: readonly Failpoint[], roles: readonly Role[], cause: Cause, timesMax: number): Step[] {
  return points.flatMap((point) => roles.map((role) => ({ point, role, cause, timesMax })))
}
