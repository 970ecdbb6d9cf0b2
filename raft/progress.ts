/**
 * What a leader knows of one peer, and how much it may send to it. Thesis sections 3.5 (nextIndex, matchIndex) and 10.2.1
 * (pipelining).
 *
 *   probe      it is not known where the logs agree: one append at a time, each waits for its answer or the next heartbeat's
 *   replicate  they agree up to `match`; appends are sent ahead of the answers, as many as the window holds
 *   snapshot   the peer needs entries that are compacted: nothing is sent until the snapshot arrived or failed
 *
 * P1 match < next.
 * P2 In `replicate` an append leaves only while fewer than `inflight_appends_max` appends and `inflight_bytes_max` bytes are on
 *    their way.
 */
import { assert } from './assert.ts'
import type { Options } from './model.ts'

export interface Progress {
  /** The peer's log is durable and equal to ours up to here. */
  match: number
  next: number
  state: 'probe' | 'replicate' | 'snapshot'
  /** probe: an append is out. */
  probing: boolean
  /** snapshot: the index of the one on its way. */
  snapshotIndex: number
  /** It was heard from since the last look of check-quorum. */
  active: boolean
  /** Highest round of heartbeats that it answered (section 6.4). */
  round: number
  /** Highest commit index that it was told. */
  toldCommit: number
  inflight: Window
}

/** Appends on their way, oldest first, from `head`: the last index of each and its bytes. */
export interface Window {
  head: number
  lasts: number[]
  sizes: number[]
  bytes: number
}

export function makeProgress(next: number): Progress {
  return {
    match: 0,
    next,
    state: 'probe',
    probing: false,
    snapshotIndex: 0,
    active: true,
    round: 0,
    toldCommit: 0,
    inflight: makeWindow(),
  }
}

export function toProbe(progress: Progress, next: number): void {
  progress.state = 'probe'
  progress.probing = false
  progress.next = Math.max(next, progress.match + 1)
  progress.inflight = makeWindow()
}

export function toReplicate(progress: Progress): void {
  progress.state = 'replicate'
  progress.next = progress.match + 1
  progress.inflight = makeWindow()
}

export function toSnapshot(progress: Progress, index: number): void {
  progress.state = 'snapshot'
  progress.snapshotIndex = index
  progress.inflight = makeWindow()
}

export function maySend(progress: Progress, options: Options): boolean {
  if (progress.state === 'snapshot') return false
  if (progress.state === 'probe') return !progress.probing
  const { inflight } = progress
  return inflight.lasts.length - inflight.head < options.inflight_appends_max && inflight.bytes < options.inflight_bytes_max // P2
}

/** Room for data in the next append. */
export function roomFor(progress: Progress, options: Options): number {
  if (progress.state !== 'replicate') return options.append_bytes_max
  return Math.min(options.append_bytes_max, options.inflight_bytes_max - progress.inflight.bytes)
}

/** An append up to `last` left. */
export function sent(progress: Progress, last: number, bytes: number): void {
  if (progress.state === 'probe') {
    progress.probing = true
    return
  }
  progress.next = last + 1
  progress.inflight.lasts.push(last)
  progress.inflight.sizes.push(bytes)
  progress.inflight.bytes += bytes
}

/** The peer has everything up to `match`. */
export function accepted(progress: Progress, match: number): void {
  progress.match = Math.max(progress.match, match)
  progress.next = Math.max(progress.next, progress.match + 1)
  assert(progress.match < progress.next, 'P1 match < next')
  free(progress.inflight, match)
}

function makeWindow(): Window {
  return { head: 0, lasts: [], sizes: [], bytes: 0 }
}

function free(window: Window, match: number): void {
  while (window.head < window.lasts.length && window.lasts[window.head]! <= match) window.bytes -= window.sizes[window.head++]!
  if (window.head === window.lasts.length) {
    if (window.head === 0) return
    window.head = 0
    window.lasts.length = 0
    window.sizes.length = 0
  } else if (window.head >= 64) {
    window.lasts.splice(0, window.head)
    window.sizes.splice(0, window.head)
    window.head = 0
  }
}
