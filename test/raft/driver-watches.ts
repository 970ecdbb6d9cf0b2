/**
 * Watchers of a simulated cluster: on each machine the hub of a real store, and clients of it that go from node to node, by their own will,
 * because a process ended, or because they were told to.
 *
 *   watch order   a watcher sees every change of its paths from where it began, in order, each once, over nodes, leaders and snapshots; what it
 *                 does not see it is told of (`compacted`); one that begins without a position begins behind all that was acknowledged
 */
import { contextFor } from '../../namespace/context.ts'
import { NineError, isNineError } from '../../namespace/errors.ts'
import type { WatchBatch } from '../../namespace/file-server.ts'
import { joinName, parsePath, rootPath, type Path } from '../../namespace/path.ts'
import { decodePosition, type Position } from '../../namespace/position.ts'
import type { Entry, GroupId } from '../../raft/index.ts'
import type { NodeRecord, Revision } from '../../storage/model.ts'
import { Positions } from '../../storage/store/answers.ts'
import { WatchHub } from '../../storage/store/watches.ts'
import { expectThat, numberOf } from './driver-checks.ts'
import { isRefused } from './driver-node.ts'
import type { SimMachine, SimNode } from './driver-node.ts'

/** What a machine applied, newest first: a snapshot brings the whole of it along. */
export interface Past {
  readonly revision: Revision
  readonly before: Past | null
}

const files = 4
const watchersOfGroup = 3
const principal = { name: 'glenda', groups: [] }

/** Every entry is a revision that changes one file, whose version tells what was applied up to it. */
export function pastAfter(before: Past | null, entry: Entry, hash: number): Past {
  const revision = { revision: entry.index, time: 0, actor: 'glenda', cause: undefined, images: [] }
  const path = pathOf(entry)
  const node = nodeOf(path, entry.index, hash >>> 0)
  return {
    before,
    revision: { ...revision, events: [{ type: 'change', path, from: undefined, subtree: false, node, previous: undefined }] },
  }
}

interface Served {
  readonly hub: WatchHub
  /** All up to here was told to its watchers. */
  told: number
}

interface Following {
  readonly machine: SimMachine
  readonly batches: AsyncIterator<WatchBatch>
}

/** A client's watch. */
interface Watch {
  readonly group: GroupId
  readonly path: Path
  readonly isRecursive: boolean
  /** It has seen all of its paths before this revision; 0: it has not begun. */
  next: number
  /** Where it says that it goes on. */
  from: Position | undefined
  following: Following | undefined
}

export class Watches {
  seen = 0
  skips = 0
  moves = 0
  readonly #random: () => number
  /** Revisions that a store keeps. */
  readonly #kept: number
  readonly #served = new Map<SimMachine, Served>()
  readonly #watches: Watch[]
  /** By group: the path of each revision, and what its file says. */
  readonly #facts = new Map<GroupId, { readonly path: Path; readonly version: number }[]>()
  readonly #known: (group: GroupId) => number
  #fault: Error | undefined

  /** @param known the highest index of a group that a client knows of */
  constructor(random: () => number, groups: readonly GroupId[], known: (group: GroupId) => number) {
    this.#random = random
    this.#known = known
    this.#kept = this.#random() < 0.5 ? Infinity : 12
    for (const group of groups) this.#facts.set(group, [])
    this.#watches = groups.flatMap((group) =>
      Array.from({ length: watchersOfGroup }, (_, at): Watch => {
        const isRecursive = at > 0
        return { group, path: isRecursive ? rootPath : fileAt(at), isRecursive, next: 0, from: undefined, following: undefined }
      }),
    )
  }

  applied(machine: SimMachine): void {
    const { revision } = machine.state.past!
    const facts = this.#facts.get(machine.id)!
    const { path, node } = revision.events[0]!
    facts[revision.revision] ??= { path, version: node.version }
    const served = this.#served.get(machine)
    if (served === undefined) return
    served.told = revision.revision
    served.hub.publish(revision)
  }

  installed(machine: SimMachine): void {
    const served = this.#served.get(machine)
    if (served === undefined) return
    served.hub.replaced(served.told + 1)
    served.told = machine.state.index
  }

  /** These machines serve nobody any more. */
  ended(machines: Iterable<SimMachine>): void {
    for (const machine of machines) {
      this.#served.get(machine)?.hub.close()
      this.#served.delete(machine)
      for (const watch of this.#watches) if (watch.following?.machine === machine) watch.following = undefined
    }
  }

  /** What clients do in a round; `calm`: nobody leaves a machine that has all there is. @throws Error of what a watcher saw since the last one */
  round(nodes: readonly SimNode[], calm: boolean): void {
    if (this.#fault !== undefined) throw this.#fault
    for (const watch of this.#watches) {
      if (watch.following !== undefined) {
        const hasAll = watch.following.machine.state.index >= this.#facts.get(watch.group)!.length - 1
        if (!(calm && hasAll) && this.#random() < 0.04) this.#leave(watch)
      } else if (this.#random() < 0.3) {
        const node = nodes[Math.floor(this.#random() * nodes.length)]!
        const machine = node.running?.machines.get(watch.group)
        if (machine !== undefined && !machine.hasStopped && !machine.isInstalling && node.paused === 0) this.#follow(watch, machine)
      }
    }
  }

  /** Watches that have not seen all there is. */
  get behind(): string[] {
    return this.#watches.flatMap((watch) => {
      const { group, path, next } = watch
      const missed = this.#firstMissed(watch, this.#facts.get(group)!.length)
      return next === 0 || missed !== undefined ? [`the watch of ${path} in group ${group} is at ${next} and never sees ${missed}`] : []
    })
  }

  close(): void {
    for (const { hub } of this.#served.values()) hub.close()
  }

  #follow(watch: Watch, machine: SimMachine): void {
    this.moves++
    const { hub } = this.#serve(machine)
    const { path, isRecursive } = watch
    const batches = hub.watch(contextFor(principal, Infinity), path, { from: watch.from, recursive: isRecursive })[Symbol.asyncIterator]()
    const following = { machine, batches }
    watch.following = following
    const known = watch.from === undefined ? this.#known(watch.group) : 0
    this.#read(watch, following, known).catch((error: unknown) => {
      this.#fault ??= error instanceof Error ? error : new Error(String(error))
    })
  }

  #leave(watch: Watch): void {
    void watch.following?.batches.return?.()
    watch.following = undefined
  }

  async #read(watch: Watch, following: Following, known: number): Promise<void> {
    try {
      for (;;) {
        const batch = await following.batches.next()
        if (watch.following !== following) return
        if (batch.done === true) break
        this.#take(watch, following.machine, batch.value, known)
      }
    } catch (error) {
      if (watch.following !== following) return
      if (!(error instanceof NineError)) throw error
      if (error.kind === 'compacted') this.#skip(watch, error)
      else expectThat(isNineError(error, 'unavailable'), `watch order: ${this.#name(watch, following.machine)} ends: ${error.message}`)
    }
    watch.following = undefined
  }

  #take(watch: Watch, machine: SimMachine, { events, position }: WatchBatch, known: number): void {
    const facts = this.#facts.get(watch.group)!
    const who = this.#name(watch, machine)
    const to = position[0]!.revision
    if (watch.next === 0) {
      const begins = events[0]?.position[0]!.revision ?? to
      expectThat(begins > known, `watch order: ${who} begins at ${begins}, asked for when ${known} was known`)
      watch.next = begins
    }
    for (const event of events) {
      const { revision } = event.position[0]!
      this.#expectNothingBefore(watch, revision, who)
      expectThat(revision >= watch.next, `watch order: ${who} sees ${revision} after ${watch.next - 1}`)
      const fact = facts[revision]!
      expectThat(event.path === fact.path && event.stat?.version === fact.version, `watch order: ${who} sees another ${revision}`)
      watch.next = revision + 1
      this.seen++
    }
    this.#expectNothingBefore(watch, to, who)
    expectThat(to >= watch.next, `watch order: ${who} is told to go on at ${to}, having seen ${watch.next - 1}`)
    watch.next = to
    watch.from = position
  }

  #skip(watch: Watch, { resume, message }: NineError): void {
    const position = decodePosition(resume!)
    const { revision } = position[0]!
    expectThat(revision > watch.next, `watch order: a watch at ${watch.next} is sent to ${revision}: ${message}`)
    this.skips++
    watch.next = revision
    watch.from = position
  }

  #expectNothingBefore(watch: Watch, revision: number, who: string): void {
    const missed = this.#firstMissed(watch, revision)
    expectThat(missed === undefined, `watch order: ${who} is at ${revision} and never saw ${missed}`)
  }

  #firstMissed({ group, path, isRecursive, next }: Watch, before: number): number | undefined {
    const facts = this.#facts.get(group)!
    for (let revision = Math.max(1, next); revision < before; revision++) if (isRecursive || facts[revision]!.path === path) return revision
    return undefined
  }

  #name({ group, path }: Watch, machine: SimMachine): string {
    return `a watcher of ${path} at ${machine.node.id}, group ${group},`
  }

  #serve(machine: SimMachine): Served {
    let served = this.#served.get(machine)
    if (served === undefined) {
      const kept = this.#kept
      const hub = new WatchHub({
        positions: new Positions(`group${machine.id}`, 'first'),
        revision: () => machine.state.index,
        firstKept: () => Math.max(1, machine.state.index - kept + 1),
        readHistory: (from, max) => revisionsOf(machine.state.past, from).slice(0, max),
        current: (_, op, path) => machine.group.read().catch((error: unknown) => refused(error, op, path)),
        maySee: () => true,
        mayRead: () => true,
      })
      served = { hub, told: machine.state.index }
      this.#served.set(machine, served)
    }
    return served
  }
}

/** As a replica says it. */
function refused(error: unknown, op: string, path: string): never {
  if (!isRefused(error)) throw error
  throw new NineError({ kind: 'unavailable', op, path, message: error.message })
}

function revisionsOf(past: Past | null, from: number): Revision[] {
  const found: Revision[] = []
  for (let at = past; at !== null && at.revision.revision >= from; at = at.before) found.push(at.revision)
  return found.reverse()
}

function fileAt(index: number): Path {
  return joinName(rootPath, `f${index}`)
}

/** What no client proposed changes a file of its own. */
function pathOf({ data }: Entry): Path {
  return data === null ? parsePath('/log') : fileAt(numberOf(data) % files)
}

function nodeOf(path: Path, revision: number, version: number): NodeRecord {
  const by = { owner: 'glenda', group: 'glenda', modifiedBy: 'glenda', createdAt: 0, modifiedAt: 0 }
  const place = { ino: 2, parent: 1, name: path.slice(1), since: revision, revision, createdRevision: 1 }
  const rest = { contentType: undefined, lease: undefined, rights: undefined, content: { kind: 'none' } as const }
  return { ...place, ...by, ...rest, kind: 'file', version, mode: 0o644 }
}
