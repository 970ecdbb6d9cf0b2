/**
 * What must hold of any run of drivers, whatever happens to them; looked at where it could break.
 *
 *   election safety       at most one leader a term
 *   log matching          entries of one index and term are the same, and so are the terms before them
 *   leader completeness   who begins to lead has all that was ever applied anywhere
 *   state machine safety  what is applied at an index is the same everywhere, in order, each once; snapshots too
 *   durability            a vote, a promise and what is applied are on this disk before they show; what was acknowledged is there at the end
 *   answers               each proposal is told of once, with its own entry, and reads, changes and transfers end; what was refused or lost for ever
 *                         is never applied
 *   reads                 a read shows at least what was acknowledged, or read, when it began
 *   ends                  who failed says nothing any more
 */
import type { Entry, Fate, GroupId, NodeId, PeerItem, Persist, Raft, Status } from '../../raft/index.ts'
import { lastIndex, termAt } from '../../raft/log.ts'
import { hashOf } from './driver-node.ts'
import type { Proposal, SimMachine, SimNode } from './driver-node.ts'

/** How much of what happened in a run. */
export interface DriverOutcome {
  readonly applied: number
  readonly acknowledged: number
  readonly reads: number
  readonly elections: number
  readonly never: number
  readonly installs: number
  readonly slow: number
  readonly changes: number
  readonly crashes: number
  readonly diskFailures: number
  readonly transfers: number
  readonly changesDone: number
  readonly rests: number
  readonly restless: number
  readonly removals: number
  readonly watched: number
  readonly moves: number
  readonly skips: number
}

interface History {
  /** By index: what was applied, and the hash of all up to it. */
  readonly terms: number[]
  readonly hashes: number[]
  /** Term of the member that first applied it. */
  readonly by: number[]
  readonly leaders: Map<number, NodeId>
  readonly entries: Map<string, { readonly hash: number; readonly previousTerm: number }>
  /** Highest index that a client knows of: its proposal was applied, or it read there. */
  known: number
}

export class Checks {
  readonly #histories = new Map<GroupId, History>()
  /** By number. */
  readonly proposals: Proposal[] = []
  acknowledged = 0
  reads = 0
  elections = 0
  never = 0
  installs = 0
  /** Entries over which a machine took its time. */
  slow = 0
  changes = 0

  get counts(): Pick<DriverOutcome, 'acknowledged' | 'reads' | 'elections' | 'never' | 'installs' | 'slow' | 'changes'> {
    const { acknowledged, reads, elections, never, installs, slow, changes } = this
    return { acknowledged, reads, elections, never, installs, slow, changes }
  }

  history(group: GroupId): History {
    let history = this.#histories.get(group)
    if (history === undefined) {
      history = { terms: [0], hashes: [0], by: [0], leaders: new Map(), entries: new Map(), known: 0 }
      this.#histories.set(group, history)
    }
    return history
  }

  wrote(node: SimNode, raft: Raft, group: GroupId, { entries }: Persist): void {
    const known = this.history(group).entries
    for (const entry of entries) {
      const previousTerm = termAt(raft.log, entry.index - 1)
      const key = `${entry.index} ${entry.term}`
      const there = known.get(key)
      const hash = hashOf(0, entry)
      if (there === undefined) known.set(key, { hash, previousTerm })
      else expectThat(there.hash === hash && there.previousTerm === previousTerm, `log matching: ${node.id} writes another ${key}`)
    }
  }

  sent(node: SimNode, item: PeerItem): void {
    expectThat(node.running?.hasFailed === false, `ends: ${node.id} sends ${item.kind} after its disk failed`)
    if (item.kind !== 'raft') return
    const { message } = item
    const { hard, last } = node.durable.get(item.group)!
    if (message.kind === 'vote' || (message.kind === 'vote_reply' && message.granted)) {
      const vote = message.kind === 'vote' ? message.from : message.to
      expectThat(hard.term === message.term && hard.vote === vote, `durability: ${node.id}'s vote in ${message.term} is not on disk`)
    } else if (message.kind === 'accepted') {
      expectThat(hard.term === message.term, `durability: ${node.id} answers in term ${message.term}, which is not on disk`)
      expectThat(last >= message.match, `durability: ${node.id} promises ${message.match} and has ${last} on disk`)
    }
  }

  applied(machine: SimMachine, entry: Entry, proposal: Proposal | undefined): void {
    const { node, id, state } = machine
    const history = this.history(id)
    const who = `${node.id}, group ${id}, entry ${entry.index}`
    expectThat(node.running?.hasFailed === false, `ends: ${who} is applied after the disk failed`)
    expectThat(!machine.isBusy && !machine.isInstalling, `busy: ${who} is applied to a busy machine`)
    expectThat(entry.index <= node.durable.get(id)!.last, `durability: ${who} is applied before it is on disk`)
    if (history.hashes.length === entry.index) {
      history.hashes.push(state.hash)
      history.terms.push(entry.term)
      history.by.push(machine.raft.term)
      if (entry.configuration !== null) this.changes++
    }
    expectThat(history.hashes[entry.index] === state.hash, `state machine safety: ${who} is another, or not the next`)
    const number = entry.data === null ? -1 : numberOf(entry.data)
    if (number >= 0) {
      const { fate } = this.proposals[number]!
      expectThat(fate === 'open' || fate === 'applied' || fate === 'unknown', `answers: ${number} was refused (${fate}) and is applied`)
    }
    if (proposal === undefined) return
    expectThat(proposal.number === number, `answers: ${proposal.number} is answered by ${number}`)
    this.#end(proposal, 'applied')
    history.known = Math.max(history.known, entry.index)
    this.acknowledged++
  }

  installed({ node, id, state }: SimMachine): void {
    this.installs++
    expectThat(this.history(id).hashes[state.index] === state.hash, `state machine safety: ${node.id} installs another ${state.index}`)
  }

  ended({ id }: SimMachine, proposal: Proposal, fate: Fate): void {
    if (fate === 'never') this.never++
    if (fate !== 'unknown') expectThat(proposal.group === id, 'answers: of another group')
    this.#end(proposal, fate)
  }

  changed({ node, id, raft }: SimMachine, { role, term }: Status): void {
    if (role !== 'leader') return
    const { leaders, terms, by } = this.history(id)
    const before = leaders.get(term)
    expectThat(before === undefined || before === node.id, `election safety: ${before} and ${node.id} lead group ${id} in ${term}`)
    if (before !== undefined) return
    this.elections++
    leaders.set(term, node.id)
    for (let index = Math.max(1, raft.log.base.index); index < terms.length; index++) {
      if (by[index]! >= term) continue
      expectThat(index <= lastIndex(raft.log) && termAt(raft.log, index) === terms[index], `leader completeness: ${node.id} lacks ${index}`)
    }
  }

  /** A read begins; what is returned is to be called when it is served. */
  read(machine: SimMachine): () => void {
    const history = this.history(machine.id)
    const { known } = history
    return () => {
      const { index } = machine.state
      expectThat(index >= known, `reads: ${machine.node.id} shows ${index} of group ${machine.id} to who knows of ${known}`)
      history.known = Math.max(history.known, index)
      this.reads++
    }
  }

  #end(proposal: Proposal, fate: Proposal['fate']): void {
    expectThat(proposal.fate === 'open', `answers: ${proposal.number} is told ${proposal.fate}, then ${fate}`)
    proposal.fate = fate
  }
}

/** The data of a proposal. */
export function dataOf(number: number, bytes: number): Uint8Array {
  const data = new Uint8Array(Math.max(4, bytes))
  new DataView(data.buffer).setUint32(0, number)
  return data
}

/** The number in it. */
export function numberOf(data: Uint8Array): number {
  return new DataView(data.buffer, data.byteOffset).getUint32(0)
}

export function expectThat(holds: boolean, what: string): asserts holds {
  if (!holds) throw new Error(what)
}
