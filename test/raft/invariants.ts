/**
 * What must hold of any run, checked at each step. Thesis figure 3.2, and what the core promises beside it.
 *
 *   election safety      at most one leader a term
 *   leader append-only   a leader never cuts its log
 *   log matching         entries of one index and term are the same, and so is all before them
 *   leader completeness  a leader has every entry committed in an earlier term
 *   state machine safety no two members commit or apply different entries at one index
 *   durability           a vote is on disk before it leaves, a promise of entries too
 *                        and what the core takes for durable is on disk
 *   configuration        the newest in the log is in force
 *   reads                a read shows at least what was acknowledged when it began
 *   fates                no proposal is both lost for ever and committed
 *   bounds               uncommitted bytes and windows
 */
import { bytesOf, currentConfiguration, currentConfigurationIndex, entryAt, lastIndex, lastTerm, termAt } from '../../raft/log.ts'
import type { Effects, Entry, Input, Raft } from '../../raft/index.ts'
import { hashOf } from './cluster.ts'
import type { Member, Packet, Watch } from './cluster.ts'

interface Committed {
  readonly entry: Entry
  /** Term of the member that first showed it as committed. */
  readonly by: number
}

export class Invariants implements Watch {
  /** By index. */
  readonly committed: Committed[] = []
  /** Highest index of a proposal that was acknowledged: applied where it was taken. */
  acknowledged = 0
  reads = 0
  elections = 0
  lostNever = 0
  installs = 0
  changes = 0
  private readonly leaders = new Map<number, string>()
  private readonly entries = new Map<string, { entry: Entry; previousTerm: number }>()
  private readonly hashes: number[] = [0]
  private readonly taken = new Map<string, 'open' | 'done'>()
  private readonly views = new Map<string, { commit: number; leading: { term: number; last: number; lastTerm: number } | null }>()
  /** Index and term of what was lost for ever. */
  private readonly never = new Set<string>()
  private readonly begun = new Map<string, number>()

  started(member: Member): void {
    this.views.set(member.id, { commit: member.raft!.commit, leading: null })
    expectThat(member.machine.hash === this.hashes[member.machine.index], `state machine safety: ${member.id} restarts with another state`)
  }

  stepped(member: Member, inputs: readonly Input[], effects: Effects): void {
    const raft = member.raft!
    for (const input of inputs) if (input.kind === 'read') this.begun.set(`${member.id} ${input.ref}`, this.acknowledged)
    for (const answer of effects.answers) {
      for (let at = 0; at < answer.taken; at++) this.taken.set(`${member.id} ${answer.term} ${answer.first + at}`, 'open')
    }
    for (const { kind, from } of effects.implausible) throw new Error(`plausible: ${member.id} drops a ${kind} of ${from}`)
    this.checkEntries(raft, effects)
    this.checkDisk(member)
    this.checkConfiguration(raft)
    this.checkCommit(member)
    this.checkLeader(member)
    if (effects.apply?.install) this.installs++
    for (const { first, last, term, fate } of effects.lost) {
      if (fate !== 'never') continue
      for (let index = first; index <= last; index++) {
        expectThat(this.committed[index]?.entry.term !== term, `fates: ${index} of term ${term} is lost and committed`)
        this.never.add(`${index} ${term}`)
        this.lostNever++
      }
    }
    for (const { ref, index } of effects.reads) {
      const key = `${member.id} ${ref}`
      expectThat(this.begun.has(key), `reads: ${key} was not asked for in this life`)
      expectThat(
        member.machine.index >= this.begun.get(key)!,
        `reads: ${key} shows ${member.machine.index} and began at ${this.begun.get(key)}`,
      )
      expectThat(index <= member.machine.index, `reads: ${key} is served before its index is applied`)
      this.begun.delete(key)
      this.reads++
    }
  }

  /** Before it is on the network. */
  sent(member: Member, packet: Packet): void {
    const { message } = packet
    const { disk } = member
    if (message.kind === 'vote' || (message.kind === 'vote_reply' && message.granted)) {
      const vote = message.kind === 'vote' ? message.from : message.to
      expectThat(
        disk.hard.term === message.term && disk.hard.vote === vote,
        `durability: ${member.id}'s vote in ${message.term} is not on disk`,
      )
    }
    if (message.kind === 'accepted') {
      expectThat(disk.hard.term === message.term, `durability: ${member.id} answers in term ${message.term}, which is not on disk`)
      const last = disk.entries[disk.entries.length - 1]?.index ?? disk.snapshot.meta.index
      expectThat(last >= message.match, `durability: ${member.id} promises ${message.match} and has ${last} on disk`)
    }
  }

  applied(member: Member, entry: Entry): void {
    const there = this.committed[entry.index]
    expectThat(there?.entry === entry, `state machine safety: ${member.id} applies at ${entry.index} what is not committed`)
    this.hashes[entry.index] ??= hashOf(this.hashes[entry.index - 1]!, entry)
    expectThat(member.machine.hash === this.hashes[entry.index], `state machine safety: ${member.id} differs at ${entry.index}`)
    if (this.taken.delete(`${member.id} ${entry.term} ${entry.index}`)) this.acknowledged = Math.max(this.acknowledged, entry.index)
  }

  private checkEntries(raft: Raft, effects: Effects): void {
    for (const entry of effects.persist?.entries ?? []) {
      const previousTerm = termAt(raft.log, entry.index - 1)
      const key = `${entry.index} ${entry.term}`
      const known = this.entries.get(key)
      if (known === undefined) this.entries.set(key, { entry, previousTerm })
      else
        expectThat(known.entry === entry && known.previousTerm === previousTerm, `log matching at index ${entry.index}, term ${entry.term}`)
    }
  }

  private checkDisk({ id, disk, raft }: Member): void {
    const { durable } = raft!.out
    const first = disk.entries[0]?.index ?? 0
    const onDisk = disk.entries[durable - first]?.term ?? (durable <= disk.snapshot.meta.index ? termAt(raft!.log, durable) : -1)
    expectThat(onDisk === termAt(raft!.log, durable) || durable <= raft!.log.base.index, `durability: ${id} takes ${durable} for durable`)
  }

  private checkConfiguration(raft: Raft): void {
    const index = currentConfigurationIndex(raft.log)
    expectThat(index <= lastIndex(raft.log), 'configuration: one that is cut from the log is in force')
    if (index <= raft.log.base.index) return
    expectThat(entryAt(raft.log, index).configuration === currentConfiguration(raft.log), 'configuration: another is in force')
  }

  private checkCommit(member: Member): void {
    const raft = member.raft!
    const view = this.views.get(member.id)!
    expectThat(raft.commit >= view.commit, `${member.id} takes back its commit index`)
    for (let index = Math.max(view.commit, raft.log.base.index) + 1; index <= raft.commit; index++) {
      const entry = entryAt(raft.log, index)
      const there = this.committed[index]
      if (there === undefined) {
        expectThat(!this.never.has(`${index} ${entry.term}`), `fates: ${index} of term ${entry.term} was lost and is committed`)
        this.committed[index] = { entry, by: raft.term }
        if (entry.configuration !== null) this.changes++
      } else expectThat(there.entry === entry, `state machine safety: ${member.id} commits another entry at ${index}`)
    }
    view.commit = raft.commit
  }

  private checkLeader(member: Member): void {
    const raft = member.raft!
    const view = this.views.get(member.id)!
    if (raft.leading === null) {
      view.leading = null
      return
    }
    const before = this.leaders.get(raft.term)
    expectThat(before === undefined || before === member.id, `election safety: ${before} and ${member.id} lead in term ${raft.term}`)
    const was = view.leading
    if (was?.term === raft.term) {
      const kept = was.last < raft.log.base.index || (lastIndex(raft.log) >= was.last && termAt(raft.log, was.last) === was.lastTerm)
      expectThat(kept, `leader append-only: ${member.id} cut its log`)
    } else {
      this.leaders.set(raft.term, member.id)
      this.elections++
      for (let index = raft.log.base.index + 1; index < this.committed.length; index++) {
        const there = this.committed[index]
        if (there === undefined || there.by >= raft.term) continue
        expectThat(termAt(raft.log, index) === there.entry.term, `leader completeness: ${member.id} leads in ${raft.term} without ${index}`)
      }
    }
    view.leading = { term: raft.term, last: lastIndex(raft.log), lastTerm: lastTerm(raft.log) }
    this.checkBounds(raft)
  }

  private checkBounds(raft: Raft): void {
    const { options, log } = raft
    let bytes = 0
    let largest = 0
    for (let index = Math.max(raft.commit, log.base.index) + 1; index <= lastIndex(log); index++) {
      const entry = entryAt(log, index)
      if (entry.data === null || entry.term !== raft.term) continue
      bytes += bytesOf(entry)
      largest = Math.max(largest, bytesOf(entry))
    }
    expectThat(bytes <= Math.max(options.uncommitted_bytes_max, largest), `bounds: ${bytes} bytes uncommitted`)
    for (const { inflight } of raft.leading!.peers.values()) {
      expectThat(inflight.lasts.length - inflight.head <= options.inflight_appends_max, 'bounds: too many appends on their way')
    }
  }
}

function expectThat(holds: boolean, what: string): asserts holds {
  if (!holds) throw new Error(what)
}
