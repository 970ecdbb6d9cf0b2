/**
 * Founding a cluster or joining one: what a node that starts does next, from its folder and from what its peers answered. A function of
 * these alone; `founding.ts` asks, acts and asks again.
 *
 * F1 At most one node founds: the only one with data, else the first of the peers, which all must list alike. It founds only when it has
 *    heard every peer and none of them belongs to a cluster.
 * F2 Who hears of a cluster never founds one: it joins, or waits until it can.
 * F3 A folder with data joins nothing, since that data would be lost or the cluster's.
 * F4 A folder that belongs to a cluster never leaves it for another.
 * F5 What only a person can put right is refused with what to do; what time may put right is waited for.
 * F6 Of nodes that do not take each other (token file, certificate, release) the one that ends is whom most of the nodes do not take: the
 *    others wait for it to be put right.
 */
import type { ErrorKind } from '../../namespace/errors.ts'
import { nameOfMember } from './cluster-file.ts'
import type { Stage } from './cluster-file.ts'
import { differenceOf } from './peer-list.ts'
import type { Peer } from './peer-list.ts'

/** What a folder is, as far as forming a cluster goes. */
export type FolderState =
  /** Neither stores nor a cluster. */
  | { readonly kind: 'empty' }
  /** Stores of a node that was alone. */
  | { readonly kind: 'data' }
  | { readonly kind: 'member'; readonly cluster: string; readonly member: string; readonly stage: Exclude<Stage, 'recovering'> }

export interface Own {
  readonly name: string
  /** Principal that owns the node. */
  readonly owner: string
  /** This node among them. */
  readonly peers: readonly Peer[]
  readonly folder: FolderState
}

/** What a node answers to `who`. */
export interface Who {
  readonly name: string
  readonly owner: string
  readonly peers: readonly Peer[]
  readonly folder: FolderState
  /** Whether it serves its cluster's stores, so that it can take a node in. */
  readonly isServing: boolean
  /** Whether its cluster has removed the member that asks. */
  readonly isRemoved: boolean
  /** The member that has the place of the one that asks, where it was removed for that. */
  readonly successor?: string | undefined
}

export type Heard =
  | { readonly kind: 'who'; readonly who: Who }
  /** Not heard (yet), and why. */
  | { readonly kind: 'silent'; readonly why: string }
  /** The two nodes do not take each other, which does not get better by itself. */
  | { readonly kind: 'stranger'; readonly error: ErrorKind; readonly why: string }

export interface Awaited {
  readonly name: string
  readonly address: string
  readonly why: string
}

export type Next =
  | { readonly do: 'found' }
  /** Ask `through` to be taken into its cluster. */
  | { readonly do: 'join'; readonly cluster: string; readonly through: Peer }
  /** The folder is a member's: open it. */
  | { readonly do: 'open' }
  | { readonly do: 'wait'; readonly for: readonly Awaited[] }
  | { readonly do: 'refuse'; readonly kind: ErrorKind; readonly message: string }

/** Whether a folder has its place in a cluster, so that it waits for nobody to open it. */
export function isMember(folder: FolderState): boolean {
  return folder.kind === 'member' && folder.stage !== 'joining'
}

export function describe(awaited: readonly Awaited[]): string {
  return awaited.map(({ name, address, why }) => `${name} (${address}): ${why}`).join('; ')
}

interface Answer {
  readonly peer: Peer
  readonly who: Who
}

/** @param heard by name, of the other peers; one that is missing was not asked yet */
export function nextOf(own: Own, heard: ReadonlyMap<string, Heard>): Next {
  const others = own.peers.filter((peer) => peer.name !== own.name)
  const answers: Answer[] = []
  const silent: Awaited[] = []
  const strangers: (Awaited & { readonly error: ErrorKind })[] = []
  for (const peer of others) {
    const found = heard.get(peer.name) ?? { kind: 'silent', why: 'not asked yet' }
    if (found.kind === 'who') answers.push({ peer, who: found.who })
    else silent.push({ ...peer, why: found.why })
    if (found.kind === 'stranger') strangers.push({ ...peer, ...found })
  }
  if (!isMember(own.folder) && strangers.length * 2 > own.peers.length) {
    return refuse(`most of the nodes do not take this one: ${describe(strangers)}`, strangers[0]!.error) // F6
  }
  const wrong = mismatch(own, answers)
  if (wrong !== undefined) return wrong
  return own.folder.kind === 'member' ? nextOfMember(own.folder, answers, silent) : nextOfNew(own, answers, silent)
}

/** What is wrong with the flags of some node. */
function mismatch(own: Own, answers: readonly Answer[]): Next | undefined {
  for (const { peer, who } of answers) {
    if (who.name !== peer.name) {
      return refuse(
        `the node at ${peer.address} is ${who.name}, but --peers of ${own.name} calls it ${peer.name}: put --peers or --node right`,
      )
    }
    if (who.owner !== own.owner) {
      const message = `${peer.name} belongs to ${who.owner}, ${own.name} to ${own.owner}: the nodes of a cluster have one owner (--owner, and one token file)`
      return refuse(message)
    }
  }
  return undefined
}

/** F4 */
function nextOfMember(
  { cluster, member, stage }: Extract<FolderState, { kind: 'member' }>,
  answers: readonly Answer[],
  silent: readonly Awaited[],
): Next {
  const ours = answers.filter(({ who }) => who.folder.kind === 'member' && who.folder.cluster === cluster)
  const remover = ours.find(({ who }) => who.isRemoved)
  if (remover !== undefined) {
    return refuse(removedMessage(member, `cluster ${cluster}, says ${remover.peer.name}`, remover.who.successor), 'denied')
  }
  const foreign = answers.find(({ who }) => who.folder.kind === 'member' && who.folder.cluster !== cluster)
  if (foreign !== undefined && ours.length === 0) {
    const theirs = clusterOf(foreign)
    return refuse(
      `this folder belongs to cluster ${cluster}, but ${foreign.peer.name} (${foreign.peer.address}) belongs to cluster ${theirs}: --data or --peers is wrong`,
    )
  }
  if (stage !== 'joining') return { do: 'open' }
  const through = ours.find(({ who }) => who.isServing)
  if (through !== undefined) return { do: 'join', cluster, through: through.peer }
  const notServing = answers.map(({ peer, who }) => ({ ...peer, why: whyNotServing(who) }))
  return { do: 'wait', for: [...notServing, ...silent] }
}

function nextOfNew(own: Own, answers: readonly Answer[], silent: readonly Awaited[]): Next {
  const members = answers.filter(({ who }) => who.folder.kind === 'member')
  const [first] = members
  if (first !== undefined) return nextBesideCluster(own, first, members)
  for (const { peer, who } of answers) {
    const difference = differenceOf(own.peers, who.peers)
    if (difference !== undefined) return refuse(`--peers of ${peer.name} differs from that of ${own.name}: ${difference}`) // F1
  }
  const withData = [
    ...(own.folder.kind === 'data' ? [own.name] : []),
    ...answers.filter(({ who }) => who.folder.kind === 'data').map(({ peer }) => peer.name),
  ]
  if (withData.length > 1) {
    const message = `${withData.join(' and ')} have data of their own, and a cluster begins with that of one node: give all but one an empty folder (--data), and bring their data in afterwards with nine export and nine import`
    return refuse(message) // F3
  }
  if (silent.length > 0) return { do: 'wait', for: silent } // F1
  const founder = withData[0] ?? own.peers[0]!.name
  if (founder === own.name) return { do: 'found' }
  const peer = own.peers.find(({ name }) => name === founder)!
  return { do: 'wait', for: [{ ...peer, why: 'it is to found the cluster' }] }
}

/** F2 */
function nextBesideCluster(own: Own, first: Answer, members: readonly Answer[]): Next {
  const cluster = clusterOf(first)
  const other = members.find((answer) => clusterOf(answer) !== cluster)
  if (other !== undefined) {
    const message = `${first.peer.name} belongs to cluster ${cluster} and ${other.peer.name} to cluster ${clusterOf(other)}: --peers names nodes of two clusters`
    return refuse(message)
  }
  if (own.folder.kind === 'data') {
    const message = `this folder has data of its own, and ${first.peer.name} belongs to cluster ${cluster}: start with an empty folder (--data), and bring the data in with nine export and nine import`
    return refuse(message) // F3
  }
  const through = members.find(({ who }) => who.isServing)
  if (through !== undefined) return { do: 'join', cluster, through: through.peer }
  return { do: 'wait', for: members.map(({ peer, who }) => ({ ...peer, why: whyNotServing(who) })) }
}

function whyNotServing({ folder }: Who): string {
  if (folder.kind !== 'member') return 'it belongs to no cluster yet'
  return folder.stage === 'joining' ? `it is joining cluster ${folder.cluster} itself` : `cluster ${folder.cluster} has no leader yet`
}

/** @param place a cluster, and who says so  @param successor the member that has its place now */
export function removedMessage(member: string, place: string, successor: string | undefined): string {
  const name = nameOfMember(member)
  return successor === undefined
    ? `${member} was removed from ${place}: give the node an empty folder and let it in with nine raft add ${name}=HOST:PORT, or take it out of --peers`
    : `${member} was replaced by ${successor} in ${place}: start ${name} with the folder of ${successor} (--data), or with an empty one, which takes its place in turn`
}

function clusterOf({ who }: Answer): string {
  return who.folder.kind === 'member' ? who.folder.cluster : ''
}

function refuse(message: string, kind: ErrorKind = 'invalid'): Next {
  return { do: 'refuse', kind, message }
}
