/**
 * What is taken into the log from clients, how much of it may be uncommitted, and what became of it. Thesis sections 3.5 and 6.3
 * (a client must learn whether its command may still happen).
 *
 * B1 Uncommitted data is at most `uncommitted_bytes_max`, or one proposal.
 * B2 Of each entry taken, exactly one is told: it is handed out for applying under its term and index, or it is `lost`, or a snapshot is
 *    handed out that goes past it; until then it may still happen, whoever leads.
 * B3 It is `lost` for ever once an entry of a later term is committed at its index or before it: terms never fall in a log.
 */
import { append, bytesOf, entryAt, lastIndex, termAt } from './log.ts'
import type { Refusal } from './model.ts'
import type { Raft } from './state.ts'

export function propose(raft: Raft, ref: number, data: readonly Uint8Array[]): void {
  const { leading, options, log } = raft
  const first = lastIndex(log) + 1
  let refused: Refusal | null = leading === null ? 'not_leader' : leading.transfer !== null ? 'transferring' : null
  let taken = 0
  if (leading !== null && refused === null) {
    for (; taken < data.length; taken++) {
      const bytes = data[taken]!.length
      if (leading.uncommittedBytes > 0 && leading.uncommittedBytes + bytes > options.uncommitted_bytes_max) {
        refused = 'overloaded' // B1
        break
      }
      leading.uncommittedBytes += bytes
      append(log, { index: first + taken, term: raft.term, data: data[taken]!, configuration: null })
    }
    if (taken > 0) noteTaken(raft, first, first + taken - 1)
  }
  raft.out.answers.push({ ref, taken, first, term: raft.term, refused })
}

/** Entries of this term were taken: their fate is to be told (B2). */
export function noteTaken(raft: Raft, first: number, last: number): void {
  const open = raft.taken[raft.taken.length - 1]
  if (open?.term === raft.term && open.last === first - 1) open.last = last
  else raft.taken.push({ term: raft.term, first, last })
}

/** Tell of taken entries in whose place, or before it, something else is committed by now (B2, B3). */
export function settleTaken(raft: Raft): void {
  if (raft.taken.length === 0) return
  let done = 0
  for (const open of raft.taken) {
    const end = Math.min(open.last, raft.commit)
    // What is committed beyond a leader's own term was taken by it; so while it leads, there is nothing to compare.
    if (raft.role === 'leader' && open.term === raft.term) open.first = Math.max(open.first, end + 1)
    else {
      for (; open.first <= end; open.first++) settle(raft, open.first, open.term)
      if (open.first <= open.last && termAt(raft.log, raft.commit) > open.term) loseRest(raft, open)
    }
    if (open.first > open.last) done++
  }
  if (done > 0) raft.taken = raft.taken.filter((open) => open.first <= open.last)
}

/** Bytes of data past the commit index, as a new leader finds them. */
export function uncommittedBytes(raft: Raft): number {
  let bytes = 0
  for (let index = raft.commit + 1; index <= lastIndex(raft.log); index++) bytes += dataBytes(raft, index)
  return bytes
}

/** The commit index is about to move to `commit`. */
export function releaseUncommitted(raft: Raft, commit: number): void {
  let bytes = 0
  for (let index = raft.commit + 1; index <= commit; index++) bytes += dataBytes(raft, index)
  raft.leading!.uncommittedBytes -= bytes
}

function dataBytes(raft: Raft, index: number): number {
  const entry = entryAt(raft.log, index)
  return entry.data === null ? 0 : bytesOf(entry)
}

/** B3 */
function loseRest(raft: Raft, open: { readonly term: number; first: number; readonly last: number }): void {
  const { first, last, term } = open
  raft.out.lost.push({ first, last, term, fate: 'never' })
  open.first = last + 1
}

function settle(raft: Raft, index: number, term: number): void {
  const there = termAt(raft.log, index)
  if (there === term) return
  const fate = there === -1 || index <= raft.log.base.index ? 'unknown' : 'never'
  const { lost } = raft.out
  const previous = lost[lost.length - 1]
  if (previous?.term === term && previous.last === index - 1 && previous.fate === fate) lost[lost.length - 1] = { ...previous, last: index }
  else lost.push({ first: index, last: index, term, fate })
}
