/**
 * Runs transcripts: text files of blocks, each some commands, `----`, and what the whole cluster did, ended by an empty line. Lines
 * that begin with `#` explain. Commands:
 *
 *   cluster n1 n2 n3 [option=number ...]   voters with empty disks; options as in raft/model.ts
 *   add n4                                 a member that is in no configuration yet
 *   settle                                 write, apply and deliver until nothing is left to do
 *   quietly COMMAND                        show only roles, members, applied entries and answers
 *   tick n1 [times]                        with so much jitter that it will not campaign within one election timeout
 *   campaign n1                            tick until it does
 *   elect n1                               the others forget their leader and it campaigns until it leads; shows only that
 *   propose n1 a b ...                     `big:N` is a proposal of N bytes
 *   read n1 · transfer n1 n2 · forget n1 [campaign after TICKS] · snapshot n1 · compact n1 INDEX
 *   change n1 add_learner n4 remove n2     one change of members
 *   isolate n1 · cut n1 n2 (one way) · block KIND · heal
 *   hold n1 n2 · hold KIND · hold all · release   such messages wait until `release`
 *   deliver n1 n2 [KIND]                   the oldest that waits there; and writes
 *   lose                                   all messages on their way
 *   stall n1 · resume n1                   its disk does no writes
 *   crash n1 [writes] · start n1           of the writes under way so many reached the disk
 *   show [n1 ...]                          their state; the log as index/term
 */
import type {
  Configuration,
  Effects,
  Entry,
  Input,
  Lost,
  MembershipChange,
  Message,
  Options,
  Persist,
  SnapshotMeta,
} from '../../raft/index.ts'
import { currentConfiguration } from '../../raft/log.ts'
import { Cluster } from './cluster.ts'
import type { Member, Packet, Watch } from './cluster.ts'
import { Invariants } from './invariants.ts'

const settle_steps_max = 2000

/** The transcript with what really happens in the place of what is written there. */
export function runTranscript(text: string): string {
  const interpreter = new Interpreter()
  const blocks = text.trim().split(/\n\n+/)
  const shown = blocks.map((block) => {
    const lines = block.split('\n')
    const end = lines.indexOf('----')
    if (end < 0) return block
    const head = lines.slice(0, end)
    const output = head.filter((line) => !line.startsWith('#')).flatMap((line) => interpreter.run(line))
    return [...head, '----', ...(output.length > 0 ? output : ['(nothing)'])].join('\n')
  })
  return `${shown.join('\n\n')}\n`
}

class Interpreter implements Watch {
  private cluster = new Cluster({}, [])
  private output: string[] = []
  private quiet = false
  private electing = false
  private packets: Packet[] = []
  private readonly cuts = new Set<string>()
  private readonly blocked = new Set<string>()
  private readonly held = new Set<string>()
  private readonly stalled = new Set<string>()
  /** The members as last said. */
  private readonly known = new Map<string, string>()
  private refs = 0

  run(line: string): string[] {
    this.output = []
    const words = line.trim().split(/\s+/)
    this.electing = words[0] === 'elect'
    this.quiet = words[0] === 'quietly' || this.electing
    this.command(words[0] === 'quietly' ? words.slice(1) : words)
    return this.output
  }

  // Watch
  started(): void {}
  stepped(member: Member, _inputs: readonly Input[], effects: Effects): void {
    for (const { taken, first, term, refused } of effects.answers) {
      if (taken > 0) this.say(`${member.id} takes ${span(first, first + taken - 1)} of term ${term}`)
      if (refused !== null) this.say(`${member.id} refuses: ${refused}`)
    }
    const { status } = effects
    if (status !== null && (!this.electing || status.role === 'leader'))
      this.sayStatus(member, status.role, status.leader, status.configuration)
    for (const { ref, index } of effects.reads)
      this.say(`${member.id} serves read ${ref}, which needs ${index}, at ${member.machine.index}`)
    for (const ref of effects.failedReads) this.say(`${member.id} gives up read ${ref}`)
    for (const lost of effects.lost) this.say(`${member.id} has lost ${fateOf(lost)}`)
  }
  sent(_member: Member, packet: Packet): void {
    const { from, to } = packet.message
    const lost = this.cuts.has(`${from} ${to}`) || this.blocked.has(packet.message.kind)
    this.detail(`${describe(packet.message)}${lost ? '  (lost)' : ''}`)
    if (!lost) this.packets.push(packet)
  }
  applied(member: Member, entry: Entry): void {
    if (entry.data !== null) this.say(`${member.id} applies ${entry.index} ${dataOf(entry)}`)
  }

  private command(words: string[]): void {
    const [name, id = '', ...rest] = words
    switch (name) {
      case 'cluster':
        return this.newCluster(words.slice(1))
      case 'add':
        return void this.cluster.add(id, [])
      case 'settle':
        return this.settle()
      case 'tick':
        for (let times = Number(rest[0] ?? 1); times > 0; times--) this.cluster.step(id, [{ kind: 'tick', jitter: 0.9 }])
        return
      case 'campaign':
        return this.campaign(id)
      case 'elect':
        return this.elect(id)
      case 'propose':
        return this.input(id, { kind: 'propose', ref: ++this.refs, data: rest.map(bytesOfWord) })
      case 'read':
        return this.input(id, { kind: 'read', ref: ++this.refs })
      case 'transfer':
        return this.input(id, { kind: 'transfer', ref: ++this.refs, to: rest[0]! })
      case 'forget':
        return this.input(
          id,
          rest[0] === undefined ? { kind: 'forget_leader' } : { kind: 'forget_leader', campaign_ticks: Number(rest[0]) },
        )
      case 'change':
        return this.input(id, { kind: 'change', ref: ++this.refs, changes: changesOf(rest) })
      case 'snapshot':
        return void this.cluster.snapshot(id)
      case 'compact':
        return void this.cluster.compact(id, Number(rest[0]))
      case 'isolate':
        for (const other of this.cluster.members.keys()) {
          this.cuts.add(`${id} ${other}`)
          this.cuts.add(`${other} ${id}`)
        }
        return this.dropCut()
      case 'cut':
        this.cuts.add(`${id} ${rest[0]}`)
        return this.dropCut()
      case 'block':
        return void this.blocked.add(id)
      case 'heal':
        this.blocked.clear()
        return this.cuts.clear()
      case 'hold':
        return void this.held.add([id, ...rest].join(' '))
      case 'deliver':
        return this.deliver(id, rest[0]!, rest[1])
      case 'release':
        return this.held.clear()
      case 'lose':
        this.packets = []
        return
      case 'stall':
        return void this.stalled.add(id)
      case 'resume':
        return void this.stalled.delete(id)
      case 'crash':
        return this.cluster.crash(id, Number(rest[0] ?? 0))
      case 'start':
        return this.cluster.start(id)
      case 'show':
        return this.show(id === '' ? [...this.cluster.members.keys()] : [id, ...rest])
      default:
        throw new Error(`unknown command ${name}`)
    }
  }

  private newCluster(words: string[]): void {
    const ids = words.filter((word) => !word.includes('='))
    const options: Partial<Options> = Object.fromEntries(
      words.filter((word) => word.includes('=')).map((word) => [word.split('=')[0]!, Number(word.split('=')[1])]),
    )
    for (const set of [this.cuts, this.blocked, this.held, this.stalled]) set.clear()
    this.packets = []
    this.refs = 0
    this.cluster = new Cluster(options, [new Invariants(), this])
    for (const id of ids) {
      this.cluster.add(id, ids)
      this.known.set(id, membersLine(currentConfiguration(this.cluster.member(id).raft!.log)))
    }
  }

  private input(id: string, input: Input): void {
    this.cluster.step(id, [input])
  }

  private campaign(id: string): void {
    const raft = this.cluster.member(id).raft!
    const { term } = raft
    for (let ticks = 0; ticks < 40; ticks++) {
      this.input(id, { kind: 'tick', jitter: 0 })
      if (raft.term > term || (raft.role === 'pre_candidate' && raft.election.elapsed === 0)) return
    }
  }

  private elect(id: string): void {
    const raft = this.cluster.member(id).raft!
    for (let tries = 0; tries < 3 && raft.role !== 'leader'; tries++) {
      for (const other of this.cluster.members.values()) {
        if (other.id !== id && other.raft !== null) this.input(other.id, { kind: 'forget_leader' })
      }
      this.campaign(id)
      this.settle()
    }
  }

  private deliver(from: string, to: string, kind: string | undefined): void {
    const at = this.packets.findIndex(
      ({ message }) => message.from === from && message.to === to && (kind ?? message.kind) === message.kind,
    )
    if (at < 0) throw new Error(`nothing waits from ${from} to ${to}`)
    this.arrive(at)
    while (this.settleDisks());
  }

  private settle(): void {
    for (let steps = 0; steps < settle_steps_max; steps++) if (!this.settleOne()) return
    throw new Error('does not settle')
  }

  private settleOne(): boolean {
    if (this.settleDisks()) return true
    const at = this.packets.findIndex(({ message }) => !this.waits(message))
    if (at < 0) return false
    this.arrive(at)
    return true
  }

  private waits({ from, to, kind }: Message): boolean {
    return this.held.has('all') || this.held.has(kind) || this.held.has(`${from} ${to}`)
  }

  private settleDisks(): boolean {
    for (const member of this.cluster.members.values()) {
      if (member.raft === null) continue
      if (member.writes.length > 0 && !this.stalled.has(member.id)) {
        this.detail(`${member.id} writes ${describeWrite(member.writes[0]!)}`)
        this.cluster.write(member.id)
        return true
      }
      if (member.applies.length > 0) {
        const { install } = member.applies[0]!
        if (install !== null) this.say(`${member.id} takes over the snapshot of ${place(install)}`)
        this.cluster.apply(member.id)
        return true
      }
    }
    return false
  }

  private arrive(at: number): void {
    const packet = this.packets[at]!
    this.packets.splice(at, 1)
    const { kind, from, to } = packet.message
    const arrives = this.cluster.member(to).raft !== null
    if (arrives) this.cluster.receive(packet)
    if (kind === 'install' && this.cluster.member(from).raft !== null) this.input(from, { kind: 'snapshot_sent', to, ok: arrives })
  }

  private dropCut(): void {
    this.packets = this.packets.filter(({ message }) => !this.cuts.has(`${message.from} ${message.to}`))
  }

  private show(ids: string[]): void {
    for (const id of ids) {
      const { raft } = this.cluster.member(id)
      if (raft === null) {
        this.say(`${id} is down`)
        continue
      }
      const log = raft.log.entries.map((entry) => `${place(entry)}${entry.data === null ? '' : `:${dataOf(entry)}`}`)
      const from = raft.log.base.index > 0 ? [`...${place(raft.log.base)}`] : []
      const { term, vote, commit } = raft
      this.say(`${id} ${raft.role} term ${term} vote ${vote ?? '-'} commit ${commit} log ${[...from, ...log].join(' ')}`)
    }
  }

  private sayStatus(member: Member, role: string, leader: string | null, configuration: Configuration): void {
    const { term } = member.raft!
    const what = role === 'follower' ? (leader === null ? 'knows no leader' : `follows ${leader}`) : `is ${role}`
    this.say(`${member.id} ${what} in term ${term}`)
    const known = membersLine(configuration)
    if (this.known.get(member.id) !== known) this.say(`${member.id} has members ${known}`)
    this.known.set(member.id, known)
  }

  private say(line: string): void {
    this.output.push(line)
  }
  private detail(line: string): void {
    if (!this.quiet) this.output.push(`  ${line}`)
  }
}

function describe(message: Message): string {
  const { from, to, kind, term } = message
  const head = `${from} → ${to} ${kind} term ${term}`
  switch (message.kind) {
    case 'pre_vote':
    case 'vote':
      return `${head} last ${message.lastIndex}/${message.lastTerm}${message.kind === 'vote' && message.transfer ? ' transfer' : ''}`
    case 'pre_vote_reply':
    case 'vote_reply':
      return `${head} ${message.granted ? 'granted' : 'refused'}`
    case 'append':
      return `${head} after ${message.prevIndex}/${message.prevTerm} [${entriesLine(message.entries)}] commit ${message.commit}`
    case 'accepted':
      return `${head} match ${message.match}`
    case 'rejected':
      return `${head} after ${message.prevIndex}, perhaps ${message.hintIndex}/${message.hintTerm}`
    case 'heartbeat':
      return `${head} round ${message.round} commit ${message.commit}`
    case 'heartbeat_reply':
      return `${head} round ${message.round}`
    case 'commit':
      return `${head} ${message.commit}`
    case 'install':
      return `${head} ${place(message.meta)}`
    case 'read':
      return `${head} ${message.incarnation}.${message.read}`
    case 'read_reply':
      return `${head} ${message.incarnation}.${message.read} index ${message.index}`
    case 'timeout_now':
    case 'stale':
      return head
  }
}

function describeWrite({ hard, install, entries }: Persist): string {
  const parts: string[] = []
  if (hard !== null) parts.push(`term ${hard.term} vote ${hard.vote ?? '-'}`)
  if (install !== null) parts.push(`snapshot ${place(install)}`)
  if (entries.length > 0) parts.push(`[${entriesLine(entries)}]`)
  return parts.join(', ')
}

function entriesLine(entries: readonly Entry[]): string {
  return entries.map((entry) => `${place(entry)} ${contentOf(entry)}`).join(', ')
}

function contentOf(entry: Entry): string {
  if (entry.configuration !== null) return `members ${membersLine(entry.configuration)}`
  return entry.data === null ? 'opens the term' : dataOf(entry)
}

function dataOf(entry: Entry): string {
  return entry.data!.length > 20 || entry.data![0] === 0 ? `(${entry.data!.length} bytes)` : Buffer.from(entry.data!).toString()
}

function membersLine({ voters, outgoing, learners, demoted }: Configuration): string {
  const joint = outgoing.length > 0 ? ` and of ${outgoing.join('+')}` : ''
  const also = [...learners, ...demoted.map((id) => `${id} (when left)`)]
  return `${voters.length === 0 ? 'none' : voters.join('+')}${joint}${also.length > 0 ? `, learners ${also.join('+')}` : ''}`
}

function fateOf({ first, last, term, fate }: Lost): string {
  return `${span(first, last)} of term ${term}: ${fate}`
}

function place(at: { index: number; term: number } | SnapshotMeta): string {
  return `${at.index}/${at.term}`
}

function span(first: number, last: number): string {
  return first === last ? `${first}` : `${first}..${last}`
}

function bytesOfWord(word: string): Uint8Array {
  return word.startsWith('big:') ? new Uint8Array(Number(word.slice(4))) : Buffer.from(word)
}

function changesOf(words: string[]): MembershipChange[] {
  const changes: MembershipChange[] = []
  for (let at = 0; at < words.length; at += 2) changes.push({ do: words[at] as MembershipChange['do'], id: words[at + 1]! })
  return changes
}
