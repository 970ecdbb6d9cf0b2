/**
 * What an operator asks of a cluster, on whichever node: the node finds the leader itself.
 *
 * O1 A command answers when it is done, not when it was begun; what goes on after its time is over goes on in the background.
 * O2 A removal after which a group could not go on is refused, unless it is forced. What was removed before counts as gone, also where groups
 *    have not let it go yet.
 * O3 What waits for a node that is silent for long ends with its name.
 */
import type { Context } from '../../namespace/context.ts'
import { isNineError, NineError, textOf } from '../../namespace/errors.ts'
import type { GroupStatus, PeerStatus } from '../../raft/index.ts'
import type { PeerService } from '../peer/ports.ts'
import { nameOfMember } from './cluster-file.ts'
import { pause } from './founding.ts'
import { removalRefusal } from './guard.ts'
import type { Peer } from './peer-list.ts'
import type { Role } from './plan.ts'
import type { ClusterStores, GroupControl } from './ports.ts'
import { restoreVerbs } from './restores.ts'
import type { Members, Roster } from './roster.ts'
import type { RosterView } from './roster-view.ts'

export interface OperationsParts {
  readonly cluster: string
  readonly name: string
  readonly member: string
  /** Of the program. */
  readonly version: string
  readonly stores: ClusterStores
  readonly roster: Roster
  readonly view: RosterView
  readonly peer: PeerService
  readonly addressOf: (member: string) => string | undefined
  /** What the next change of members of a group that this node leads waits for. */
  readonly waiting: (group: number) => string | undefined
}

export interface StoreStatus extends Omit<GroupStatus, 'peers'> {
  readonly store: string
  readonly cluster: string
  /** This node, and its life. */
  readonly node: string
  readonly member: string
  /**
   * Whether changes and linearizable reads of the store are done through this node now: another leads it, or this node does and has applied all
   * that was agreed on before its term.
   */
  readonly isReady: boolean
  /** Where nobody leads: how many of the members this node reaches, and which not, in words. */
  readonly reach?: string
  /** How far the store is that this node is given by others, in words. */
  readonly filling?: string | undefined
  /** What keeps its members from following those of the cluster. */
  readonly trouble?: string | undefined
}

export interface MemberRow {
  readonly node: string
  /** Its life; undefined: it was named and has not joined. */
  readonly member: string | undefined
  readonly address: string | undefined
  readonly role: Role | 'leaving' | 'named'
  readonly isLeader: boolean
  /** The node that answers. */
  readonly isSelf: boolean
  /** Whether the leader hears it; where there is none that can be asked, whether the node that answers does. */
  readonly isActive: boolean | undefined
  /** Entries that it lacks of those that the leader has; undefined until this leader has heard from it. */
  readonly behind: number | undefined
  /** Of its program, and of the protocol spoken with it; undefined where it cannot be asked. */
  readonly version: string | undefined
  readonly protocol: number | undefined
}

const look_ms = 20
const ask_ms = 1_000
/** Longer than an election, and than a new leader needs to hear the others. */
const silent_ms_max = 5_000
/** A command without a deadline waits so long for the cluster. */
const done_ms_max = 60_000

export class Operations {
  /** This node ends: nothing is to be handed over to it. */
  isEnding = false
  readonly #parts: OperationsParts

  constructor(parts: OperationsParts) {
    this.#parts = parts
  }

  /** As this node knows it. @throws NineError `not_found` */
  status(store: string): StoreStatus {
    const { stores, cluster, name, member } = this.#parts
    const { peers: _, ...status } = stores.group(store).status()
    const isReady = status.leader === member ? status.isReady : status.leader !== null
    const reach = status.leader === null ? { reach: stores.standing(store).reach() } : {}
    const words = { filling: stores.filling(store), trouble: status.leader === member ? this.#parts.waiting(status.group) : undefined }
    return { store, cluster, node: name, member, ...status, isReady, ...reach, ...words }
  }

  /** @throws NineError `not_found` */
  async members(store: string): Promise<MemberRow[]> {
    const { stores, view } = this.#parts
    const group = stores.group(store)
    const status = await this.#leaderStatus(group)
    const { voters, outgoing, learners } = status.configuration
    const ids = [...new Set([...voters, ...outgoing, ...learners])]
    const rows = await Promise.all(ids.map((id) => this.#rowOf(id, status)))
    for (const [node, { value }] of view.members.names) {
      if (ids.some((id) => nameOfMember(id) === node)) continue
      const unknown = { isActive: undefined, behind: undefined, version: undefined, protocol: undefined }
      rows.push({ node, member: undefined, address: value.address, role: 'named', isLeader: false, isSelf: false, ...unknown })
    }
    return rows.sort((a, b) => (a.node < b.node ? -1 : 1))
  }

  /** Let a node of this name join. @throws NineError as Roster.add */
  add(peer: Peer, role: Role): Promise<void> {
    return this.#parts.roster.add(peer, role)
  }

  /** @throws NineError `not_found`, `invalid` (O2), `deadline` */
  async remove(context: Context, name: string, force: boolean): Promise<void> {
    const { stores, roster } = this.#parts
    const op = 'cluster.remove'
    const alive = await this.#alive()
    const judge = ({ members }: Members): void => {
      const staying = new Set([...members.values()].map(({ value }) => value.name))
      for (const store of stores.names()) {
        const refusal = removalRefusal(stores.group(store).status().configuration, name, alive, staying)
        if (refusal?.isFinal === true || (refusal !== undefined && !force)) {
          throw new NineError({ kind: 'invalid', op, message: `store ${store}: ${refusal.message}` }) // O2
        }
      }
    }
    await roster.remove(name, { isForced: force, judge })
    if (name === this.#parts.name) return
    await this.#until(context, op, () => {
      const left = this.#storesOf(name)
      return left.length === 0 ? undefined : `${name} is removed, and still in the groups of ${some(left)}`
    })
  }

  /** A learner becomes a voter. @throws NineError `not_found`, `deadline` */
  async promote(context: Context, name: string): Promise<void> {
    const { stores, roster } = this.#parts
    await roster.setRole(name, 'voter')
    await this.#until(context, 'cluster.promote', () => {
      const left = [...stores.names()].filter(
        (store) =>
          !stores
            .group(store)
            .status()
            .configuration.voters.some((id) => nameOfMember(id) === name),
      )
      return left.length === 0 ? undefined : `${name} may vote, and is still catching up in ${some(left)}`
    })
  }

  /** Resolves when the node leads the store's group. @throws NineError `not_found`, `invalid` (no voter), `unavailable` (O3), `deadline` */
  async transfer(context: Context, store: string, name: string): Promise<void> {
    const op = 'cluster.transfer'
    const group = this.#parts.stores.group(store)
    let why = ''
    let silentSince = Infinity
    await this.#until(context, op, async () => {
      const { configuration, leader } = group.status()
      const heir = configuration.voters.find((id) => nameOfMember(id) === name)
      if (heir === undefined) {
        throw new NineError({
          kind: 'invalid',
          op,
          message: `${name} is no voter of store ${store}: ${configuration.voters.map(nameOfMember).join(', ')} are`,
        })
      }
      if (leader === heir) return undefined
      const silent = leader === null ? `store ${store} has no leader` : await this.#silence(group, heir, store)
      if (silent !== undefined) {
        silentSince = Math.min(silentSince, performance.now())
        if (performance.now() - silentSince > silent_ms_max) throw new NineError({ kind: 'unavailable', op, message: silent }) // O3
        return silent
      }
      silentSince = Infinity
      why = await this.#transferThrough(context, leader!, group, heir)
      return `${name} does not lead store ${store} yet${why}`
    })
  }

  /** Another member asks. @throws NineError */
  async answer(group: number, verb: string, body: Uint8Array): Promise<Uint8Array> {
    const { stores, version } = this.#parts
    if (verb === verbs.node) return encode({ version, isEnding: this.isEnding })
    if (verb === verbs.restores) return encode({})
    const store = [...stores.names()].find((known) => stores.group(known).id === group)
    if (store === undefined)
      throw new NineError({ kind: 'unavailable', op: 'cluster.answer', message: `this node has no group ${group} yet` })
    const control = stores.group(store)
    if (verb === verbs.status) return encode(control.status())
    if (verb === verbs.transfer) {
      await control.transfer(Buffer.from(body).toString())
      return encode({})
    }
    throw new NineError({ kind: 'unsupported', op: 'cluster.answer', message: `this node does not know the request ${verb}` })
  }

  /** That the leader does not hear the heir: handing over to it would only stop the store for a while. */
  async #silence(group: GroupControl, heir: string, store: string): Promise<string | undefined> {
    const { leader, peers } = await this.#leaderStatus(group)
    const isSilent = peers.find(({ id }) => id === heir)?.isActive === false
    return isSilent ? `${nameOfMember(leader!)}, which leads store ${store}, does not hear ${nameOfMember(heir)}` : undefined
  }

  /** Whether a member answers, and does not end. */
  async isStaying(id: string, signal: AbortSignal): Promise<boolean> {
    return (await this.#nodeOf(id, signal))?.isEnding === false
  }

  /** Why it did not work, for the message; the next look tries again. */
  async #transferThrough({ deadline, signal }: Context, leader: string, group: GroupControl, heir: string): Promise<string> {
    const { peer, member } = this.#parts
    try {
      if (leader === member) await group.transfer(heir)
      else
        await peer.request(leader, group.id, verbs.transfer, Buffer.from(heir), {
          deadline: Math.min(deadline, performance.now() + done_ms_max),
          signal,
        })
      return ''
    } catch (error) {
      return `: ${textOf(error)}`
    }
  }

  async #leaderStatus(group: GroupControl): Promise<GroupStatus> {
    const own = group.status()
    if (own.role === 'leader' || own.leader === null) return own
    try {
      const deadline = performance.now() + ask_ms
      const body = await this.#parts.peer.request(own.leader, group.id, verbs.status, new Uint8Array(0), { deadline })
      return JSON.parse(Buffer.from(body).toString()) as GroupStatus
    } catch {
      return own // What this node knows is better than nothing.
    }
  }

  async #rowOf(id: string, { configuration, leader, last, peers, role }: GroupStatus): Promise<MemberRow> {
    const { addressOf, member } = this.#parts
    const progress = peers.find((known) => known.id === id)
    const isLeader = leader === id
    const isSelf = id === member
    const isHeard = role === 'leader' ? isLeader || progress?.isActive : isSelf || this.#isHeard(id)
    return {
      node: nameOfMember(id),
      member: id,
      address: addressOf(id),
      role: configuration.voters.includes(id) ? 'voter' : configuration.outgoing.includes(id) ? 'leaving' : 'learner',
      isLeader,
      isSelf,
      isActive: isHeard,
      behind: isLeader ? 0 : progress === undefined || isUnheard(progress) ? undefined : Math.max(0, last - progress.match),
      ...(await this.#versionOf(id)),
    }
  }

  #isHeard(id: string): boolean {
    return this.#parts.peer.status().peers.find((known) => known.member === id)?.isHeard === true
  }

  async #versionOf(id: string): Promise<Pick<MemberRow, 'version' | 'protocol'>> {
    const { peer, member, version } = this.#parts
    if (id === member) return { version, protocol: undefined }
    const protocol = peer.status().peers.find((known) => known.member === id)?.version
    const node = await this.#nodeOf(id)
    return { version: node?.version, protocol: node === undefined ? undefined : protocol }
  }

  /** What a member says of itself; undefined: it cannot be asked. */
  async #nodeOf(id: string, signal?: AbortSignal): Promise<{ version: string; isEnding: boolean } | undefined> {
    const deadline = performance.now() + ask_ms
    try {
      const body = await this.#parts.peer.request(id, 0, verbs.node, new Uint8Array(0), { deadline, signal })
      // One of a release before says nothing of ending.
      return { isEnding: false, ...(JSON.parse(Buffer.from(body).toString()) as { version: string }) }
    } catch {
      return undefined
    }
  }

  /**
   * Voters that answer, this node among them. All are asked: this node may never have had a word for one of them, or had none since it
   * began to lead.
   */
  async #alive(): Promise<Set<string>> {
    const { stores, member } = this.#parts
    const voters = new Set([...stores.names()].flatMap((store) => stores.group(store).status().configuration.voters))
    const end = performance.now() + ask_ms
    const answers = await Promise.all([...voters].map(async (id) => id === member || (await this.#answers(id, end))))
    return new Set([...voters].filter((_, at) => answers[at]))
  }

  async #answers(id: string, end: number): Promise<boolean> {
    const never = new AbortController().signal
    for (;;) {
      if ((await this.#nodeOf(id)) !== undefined) return true
      if (performance.now() > end) return false
      await pause(look_ms, never)
    }
  }

  #storesOf(name: string): string[] {
    const { stores } = this.#parts
    return [...stores.names()].filter((store) => {
      const { voters, learners, outgoing } = stores.group(store).status().configuration
      return [...voters, ...learners, ...outgoing].some((id) => nameOfMember(id) === name)
    })
  }

  /** O1. @param left what is still to be done; undefined: nothing */
  async #until(context: Context, op: string, left: () => string | undefined | Promise<string | undefined>): Promise<void> {
    const end = Math.min(context.deadline, performance.now() + done_ms_max)
    const signal = context.signal ?? new AbortController().signal
    for (;;) {
      const message = await left()
      if (message === undefined) return
      if (signal.aborted || performance.now() > end) throw new NineError({ kind: 'deadline', op, message, outcome: 'unknown' })
      await pause(look_ms, signal)
    }
  }
}

/** What members ask each other for their operators. */
const verbs = { status: restoreVerbs.status, node: 'raft.node', transfer: 'raft.transfer', restores: restoreVerbs.able } as const

/** Whether a request is one of these. */
export function isOperation(verb: string): boolean {
  return Object.values<string>(verbs).includes(verb)
}

/** A leader begins with nothing known of the others. */
function isUnheard({ match, state }: PeerStatus): boolean {
  return state === 'probe' && match === 0
}

function some(names: readonly string[]): string {
  return names.length <= 3 ? names.join(', ') : `${names.slice(0, 3).join(', ')} and ${names.length - 3} others`
}

function encode(value: object): Uint8Array {
  return Buffer.from(JSON.stringify(value))
}

/** An error of Raft's driver as one of ours. */
export function operationError(error: unknown, op: string): NineError {
  if (isNineError(error)) return error
  const message = textOf(error)
  return new NineError({ kind: 'unavailable', op, message, outcome: 'unknown', cause: error })
}
