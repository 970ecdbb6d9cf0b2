/**
 * What leaves the core, and when. Thesis sections 3.8 (persisted state) and 10.2.1 (the leader writes to its disk in parallel).
 *
 * O1 A message of a candidate or a follower leaves only when the term and vote under which it was made are durable; one that
 *    promises entries only when these are too. A leader's leave at once: its term is durable, or it would not be leader.
 * O2 Tickets are given out and come back in order; a held message of a term gone by is dropped, which the network might have
 *    done as well.
 * O3 A candidate's own vote counts when it is durable, like any other.
 * O4 `durable` is the last index up to which this disk is known to hold the log as it is now.
 */
import { assert } from './assert.ts'
import { lastIndex, range } from './log.ts'
import type { Answer, Effects, HardState, Lost, Message, Persist, SnapshotMeta, Status, Ticket } from './model.ts'
import type { Raft } from './state.ts'

export interface Outbox {
  send: Message[]
  answers: Answer[]
  reads: { ref: number; index: number }[]
  failedReads: number[]
  lost: Lost[]
  implausible: Message[]
  status: Status | null
  /** The hard state last handed out, and its ticket. */
  hard: HardState
  hardTicket: number
  /** The log was handed out up to here. */
  handed: number
  durable: number
  install: SnapshotMeta | null
  /** A snapshot that the state machine has to take over once it is durable: with this ticket. */
  installing: { readonly meta: SnapshotMeta; readonly ticket: number } | null
  /** Last ticket given out and last one back. */
  ticket: number
  done: number
  /** Writes that are out: each makes the log durable up to `last`. */
  writes: { readonly ticket: number; last: number }[]
  /** Oldest first; `message` null is this node's own vote. */
  held: { readonly ticket: number; readonly term: number; readonly message: Message | null }[]
}

export function makeOutbox(hard: HardState, last: number): Outbox {
  return {
    send: [],
    answers: [],
    reads: [],
    failedReads: [],
    lost: [],
    implausible: [],
    status: null,
    hard,
    hardTicket: 0,
    handed: last,
    durable: last,
    install: null,
    installing: null,
    ticket: 0,
    done: 0,
    writes: [],
    held: [],
  }
}

/** A leader's message, which depends on nothing that is not durable. */
export function send(raft: Raft, message: Message): void {
  assert(raft.role === 'leader', 'O1 only a leader sends at once')
  raft.out.send.push(message)
}

/** A message that says something about this node's term and vote. */
export function sendAfterHardState(raft: Raft, message: Message): void {
  release(raft, hardIsDirty(raft) ? raft.out.ticket + 1 : raft.out.hardTicket, message)
}

/** A message that promises that the log as it is now stays. */
export function sendAfterLog(raft: Raft, message: Message): void {
  release(raft, isDirty(raft) ? raft.out.ticket + 1 : raft.out.ticket, message)
}

/** This node's own vote for itself; `countOwnVote` is asked when it is durable. */
export function holdOwnVote(raft: Raft): void {
  assert(hardIsDirty(raft), 'S1 a vote for oneself begins a term')
  raft.out.held.push({ ticket: raft.out.ticket + 1, term: raft.term, message: null }) // O3
}

/** The log was cut: what is on the disk from `index` on is not the log any more. */
export function forgetDurable(raft: Raft, index: number): void {
  const { out } = raft
  out.handed = Math.min(out.handed, index - 1)
  out.durable = Math.min(out.durable, index - 1)
  for (const write of out.writes) write.last = Math.min(write.last, index - 1)
}

/** The whole log was replaced by a snapshot. */
export function persistInstall(raft: Raft, meta: SnapshotMeta): void {
  const { out } = raft
  out.install = meta
  out.handed = meta.index
  out.durable = 0
  for (const write of out.writes) write.last = 0
}

/** A ticket came back: what waited for it leaves, or counts. */
export function persisted(raft: Raft, ticket: Ticket, countOwnVote: (raft: Raft) => void): void {
  const { out } = raft
  assert(ticket > out.done && ticket <= out.ticket, 'O2 tickets come back in order')
  out.done = ticket
  while (out.writes.length > 0 && out.writes[0]!.ticket <= ticket) out.durable = Math.max(out.durable, out.writes.shift()!.last) // O4
  let at = 0
  for (; at < out.held.length && out.held[at]!.ticket <= ticket; at++) {
    const { term, message } = out.held[at]!
    if (term !== raft.term) continue // O2
    if (message === null) countOwnVote(raft)
    else out.send.push(message)
  }
  out.held.splice(0, at)
}

/** Everything the step made, and the next write if there is one. */
export function takeEffects(raft: Raft): Effects {
  const { out } = raft
  const effects: Effects = {
    persist: takePersist(raft),
    send: out.send,
    apply: takeApply(raft),
    answers: out.answers,
    reads: out.reads,
    failedReads: out.failedReads,
    lost: out.lost,
    implausible: out.implausible,
    status: out.status,
  }
  if (out.send.length > 0) out.send = []
  if (out.answers.length > 0) out.answers = []
  if (out.reads.length > 0) out.reads = []
  if (out.failedReads.length > 0) out.failedReads = []
  if (out.lost.length > 0) out.lost = []
  if (out.implausible.length > 0) out.implausible = []
  out.status = null
  return effects
}

function release(raft: Raft, ticket: number, message: Message): void {
  const { out } = raft
  if (ticket <= out.done) {
    out.send.push(message)
    return
  }
  // Rises by ticket: a message that waits for an older write than the last held one waits for that one too.
  const behind = out.held.length === 0 ? ticket : Math.max(ticket, out.held[out.held.length - 1]!.ticket)
  out.held.push({ ticket: behind, term: raft.term, message })
}

function hardIsDirty(raft: Raft): boolean {
  return raft.term !== raft.out.hard.term || raft.vote !== raft.out.hard.vote
}

function isDirty(raft: Raft): boolean {
  return hardIsDirty(raft) || raft.out.install !== null || lastIndex(raft.log) > raft.out.handed
}

function takePersist(raft: Raft): Persist | null {
  const { out, log } = raft
  if (!isDirty(raft)) {
    assert(out.held.length === 0 || out.held[out.held.length - 1]!.ticket <= out.ticket, 'O1 what is held waits for a write')
    return null
  }
  const ticket = ++out.ticket
  let hard: HardState | null = null
  if (hardIsDirty(raft)) {
    assert(raft.term > out.hard.term || (raft.term === out.hard.term && out.hard.vote === null), 'S1 one vote a term')
    hard = out.hard = { term: raft.term, vote: raft.vote }
    out.hardTicket = ticket
  }
  const last = lastIndex(log)
  const persist: Persist = { ticket: ticket as Ticket, hard, install: out.install, entries: range(log, out.handed + 1, last) }
  if (out.install !== null) out.installing = { meta: out.install, ticket }
  out.install = null
  out.handed = last
  out.writes.push({ ticket, last })
  return persist
}

/** Committed and durable here, or a durable snapshot and what follows it. */
function takeApply(raft: Raft): Effects['apply'] {
  const { out } = raft
  let install: SnapshotMeta | null = null
  if (out.install !== null) return null
  if (out.installing !== null) {
    if (out.installing.ticket > out.done) return null
    install = out.installing.meta
    out.installing = null
    raft.handed = install.index
  }
  const last = Math.min(raft.commit, out.durable)
  if (install === null && last <= raft.handed) return null
  const entries = range(raft.log, raft.handed + 1, last)
  raft.handed = Math.max(raft.handed, last)
  return { install, entries } // S2
}
