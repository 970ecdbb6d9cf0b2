/**
 * Failpoints: named places on the way of a write at which a test makes the process end, an error come back or time pass. For tests
 * only. They are off unless the environment says otherwise when the process starts:
 *
 *   NINE_FAILPOINTS='wal.frame.after=kill@37;wal.sync=EIO@5+;wal.write=delay(150)'
 *
 *   POINT=kill         SIGKILL of this process itself
 *   POINT=EIO          an error with this code, as of the file system, at the points of the disk; error(EIO) is the same
 *   POINT=delay(MS)    time passes before it goes on
 *   POINT=value(N)     for the points that are numbers: what a limit is, in place of its own
 *   …@N  at the Nth time it is passed only; …@N+  from the Nth time on; without either: every time
 *
 * With NINE_FAILPOINTS_WHILE=FILE passing counts while that file exists: a node can first be brought where it is to fail, and what
 * failed can be mended without a restart.
 *
 * F1 Off, a failpoint is one look at a constant.
 * F2 A text that is not understood as a whole is refused when the node starts (`checkFailpoints`), and nothing of it is done.
 */
import { existsSync } from 'node:fs'
import { NineError } from './errors.ts'

export const failpointNames = [
  // A proposal: at the node that is asked and leads; at one that follows, given to the leader; at the leader, come from there.
  'propose.taken',
  'propose.forward',
  'propose.received',
  // The log: a frame is about to be written; each write and its sync; half of it is written; it is durable and nobody was told.
  'wal.frame.before',
  'wal.write',
  'wal.write.half',
  'wal.sync',
  'wal.frame.after',
  // A new segment is filled; it is in use.
  'wal.fill',
  'wal.rolled',
  // What Raft writes: hard state and configurations, given to the log and durable; and of any write, durable and not told to Raft.
  'vote.before',
  'vote.after',
  'configuration.before',
  'configuration.after',
  'configuration.applied',
  'log.done',
  // Messages but heartbeats.
  'send.before',
  'send.after',
  'receive.append',
  'receive.accepted',
  'receive.vote',
  'receive.vote_reply',
  // An entry is applied: not yet, in memory, answered.
  'apply.before',
  'apply.after',
  'apply.answered',
  // A checkpoint: begun, history is durable, the tree is. The log is cut: not yet, durably said, files gone.
  'checkpoint.before',
  'checkpoint.synced',
  'checkpoint.committed',
  'cut.before',
  'cut.durable',
  'cut.after',
  'tree.write',
  // The database is written anew: about to be copied, copied; durable without its name; it has it; durably. Then others write to it.
  'compact.copy',
  'compact.copied',
  'compact.before',
  'compact.renamed',
  'compact.synced',
  // A chunk of a large value: about to be written, durable without its name, named, durable; of a value all are on a majority.
  'chunk.write',
  'chunk.synced',
  'chunk.renamed',
  'chunk.done',
  'chunks.spread',
  // A snapshot: written for another member (each block, too), sent, received in parts, each block loaded, all of it received, loaded,
  // ready; in the place of the state, its file gone.
  'snapshot.write.before',
  'snapshot.write.block',
  'snapshot.write.after',
  'snapshot.send',
  'snapshot.part',
  'snapshot.load',
  'snapshot.finish',
  'snapshot.loaded',
  'snapshot.received',
  'install.before',
  'install.take',
  'install.taken',
  'install.done',
  // A store is restored: its backup is there and checked, claimed; the entry is applied: begun, loaded, in the place of the state; done.
  'restore.checked',
  'restore.claimed',
  'restore.load',
  'restore.take',
  'restore.taken',
  'restore.made',
  // Small files that are replaced as a whole: the new one is durable without its name; it has it.
  'stores.json.before',
  'stores.json.after',
  'cluster.json.before',
  'cluster.json.after',
  // Numbers.
  'kept.entries',
  'segment.bytes',
  'checkpoint.ms',
  'overlay.bytes',
  'uncommitted.bytes',
] as const

/** Where an error can come back. */
const diskPoints: ReadonlySet<Failpoint> = new Set([
  'wal.write',
  'wal.sync',
  'wal.fill',
  'tree.write',
  'compact.copy',
  'chunk.write',
  'install.take',
])
/** Those that are numbers. */
const numberPoints: ReadonlySet<Failpoint> = new Set([
  'kept.entries',
  'segment.bytes',
  'checkpoint.ms',
  'overlay.bytes',
  'uncommitted.bytes',
])
const delay_ms_max = 600_000

export type Failpoint = (typeof failpointNames)[number]

export type FailpointAction =
  | { readonly do: 'kill' }
  | { readonly do: 'error'; readonly code: string }
  | { readonly do: 'delay'; readonly ms: number }
  | { readonly do: 'value'; readonly value: number }

export interface FailpointRule {
  readonly point: Failpoint
  readonly action: FailpointAction
  /** At the how many-th passing, from 1; and whether at those after it too. */
  readonly from: number
  readonly isOpen: boolean
}

/** @throws NineError `invalid` F2 */
export function parseFailpoints(text: string): FailpointRule[] {
  const parts = text.split(';').filter((part) => part.trim() !== '')
  if (parts.length === 0) throw misunderstood(text, 'it names no point')
  return parts.map((part) => parseRule(part.trim()))
}

/** Whether any failpoint is on. F1 */
export const hasFailpoints: boolean = process.env['NINE_FAILPOINTS'] !== undefined

/** Before anything is done. @throws NineError `invalid` F2 */
export function checkFailpoints(): void {
  if (refusal !== undefined) throw refusal
}

/** A delay here holds up the whole process. @throws Error with a code of the file system */
export function failpoint(name: Failpoint): void {
  if (!hasFailpoints) return
  const ms = pass(name)
  if (ms > 0) Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0, ms)
}

/** A delay here holds up who waits for it. Rejects with an Error with a code of the file system. */
export async function failpointLater(name: Failpoint): Promise<void> {
  if (!hasFailpoints) return
  const ms = pass(name)
  if (ms > 0) await new Promise((resolve) => setTimeout(resolve, ms))
}

/** Whether anything is to happen at a point, now or later. */
export function failpointIsOn(name: Failpoint): boolean {
  return rules.some(({ point }) => point === name)
}

export function failpointValue(name: Failpoint, otherwise: number): number {
  for (const { point, action } of rules) if (point === name && action.do === 'value') return action.value
  return otherwise
}

let refusal: NineError | undefined
const rules = readRules()
const counting = process.env['NINE_FAILPOINTS_WHILE']
const passed = new Map<FailpointRule, number>()

function readRules(): readonly FailpointRule[] {
  if (!hasFailpoints) return []
  try {
    return parseFailpoints(process.env['NINE_FAILPOINTS']!)
  } catch (error) {
    refusal = error as NineError
    return []
  }
}

/** @returns milliseconds to wait */
function pass(name: Failpoint): number {
  let ms = 0
  for (const rule of rules) {
    if (rule.point !== name) continue
    if (counting !== undefined && !existsSync(counting)) return 0
    const times = (passed.get(rule) ?? 0) + 1
    passed.set(rule, times)
    if (times < rule.from || (times > rule.from && !rule.isOpen)) continue
    const { action } = rule
    if (action.do === 'kill') process.kill(process.pid, 'SIGKILL')
    else if (action.do === 'delay') ms += action.ms
    else if (action.do === 'error')
      throw Object.assign(new Error(`${action.code}: failpoint ${name}`), { code: action.code, syscall: 'failpoint' })
  }
  return ms
}

function parseRule(text: string): FailpointRule {
  const [, name, what, times, plus] = /^([a-z._]+)=([^@]+)(?:@([1-9]\d{0,8})(\+?))?$/.exec(text) ?? []
  if (name === undefined || what === undefined) throw misunderstood(text, 'it is not POINT=ACTION, POINT=ACTION@N or POINT=ACTION@N+')
  const point = failpointNames.find((known) => known === name)
  if (point === undefined) throw misunderstood(text, `there is no point ${name}; there are ${failpointNames.join(', ')}`)
  const action = parseAction(text, what)
  if (action.do === 'error' && !diskPoints.has(point)) throw misunderstood(text, `errors are for ${[...diskPoints].join(', ')}`)
  if ((action.do === 'value') !== numberPoints.has(point)) throw misunderstood(text, `value(N) is for ${[...numberPoints].join(', ')}`)
  return { point, action, from: Number(times ?? 1), isOpen: times === undefined || plus === '+' }
}

function parseAction(text: string, what: string): FailpointAction {
  if (what === 'kill') return { do: 'kill' }
  const [, verb, inside] = /^([a-z]+)\(([^()]+)\)$/.exec(what) ?? []
  const code = verb === 'error' ? inside : what
  if (code !== undefined && /^E[A-Z0-9]{2,15}$/.test(code)) return { do: 'error', code }
  const number = /^\d{1,12}$/.test(inside ?? '') ? Number(inside) : undefined
  if (verb === 'delay' && number !== undefined && number <= delay_ms_max) return { do: 'delay', ms: number }
  if (verb === 'value' && number !== undefined) return { do: 'value', value: number }
  throw misunderstood(text, `${JSON.stringify(what)} is none of kill, EIO or another code, delay(MS) up to ${delay_ms_max}, value(N)`)
}

function misunderstood(text: string, why: string): NineError {
  return new NineError({ kind: 'invalid', op: 'failpoint.parse', message: `NINE_FAILPOINTS has ${JSON.stringify(text)}: ${why}` })
}
