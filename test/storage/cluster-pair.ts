/**
 * Two replicas of a store over one log in memory: real stores, machines, trees, histories and chunks; only who has heard of what is
 * decided by the test.
 */
import { cpSync, mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { NineError } from '../../namespace/errors.ts'
import type { Context } from '../../namespace/context.ts'
import { parsePath, type Path } from '../../namespace/path.ts'
import { systemRandom } from '../../namespace/random.ts'
import { Machine } from '../../storage/apply/machine.ts'
import { FetchingBlobs } from '../../storage/blob/fetching.ts'
import { BlobFill } from '../../storage/blob/fill.ts'
import { openFileBlobs } from '../../storage/blob/files.ts'
import { BlobPins } from '../../storage/blob/pins.ts'
import type { BlobStore, ChunkHash } from '../../storage/blob/store.ts'
import { chunksBeyond } from '../../storage/blob/chunk-tree.ts'
import type { BlobRef, Command, Entry, Outcome } from '../../storage/model.ts'
import type { Proposer } from '../../storage/store/core.ts'
import type { Replication } from '../../storage/store/replication.ts'
import { Store } from '../../storage/store/store.ts'
import { openEnvironment, type Environment } from '../../storage/tree/environment.ts'
import type { Tree } from '../../storage/tree/tree.ts'

const owner = 'owner'
const group = 1
/** So that history is sealed, and can be compacted, often. */
const history_segment_bytes = 300

export class Pair {
  readonly dir = mkdtempSync(join(tmpdir(), 'nine-pair-'))
  /** What is agreed on, in order. */
  readonly log: Entry[] = []
  term = 1
  /** Monotonic milliseconds, and the wall's. */
  now = 1_000
  wall = Date.now()
  readonly nodes: [Replica, Replica]
  leader: Replica

  constructor() {
    this.nodes = [new Replica(this, 'a'), new Replica(this, 'b')]
    this.leader = this.nodes[0]
  }

  get a(): Replica {
    return this.nodes[0]
  }

  get b(): Replica {
    return this.nodes[1]
  }

  async open(): Promise<this> {
    for (const node of this.nodes) await node.open()
    this.leader.told(this.term)
    return this
  }

  /** Another node leads from now on; the old one only knows when it is told. */
  elect(leader: Replica, { tellOld = true } = {}): void {
    const old = this.leader
    this.term++
    this.leader = leader
    if (tellOld) old.told(0)
    leader.catchUp()
    leader.told(this.term)
  }

  commit(entry: Omit<Entry, 'index' | 'term' | 'time'>): Entry {
    const index = this.log.length + 1
    const agreed = { ...entry, index, term: this.term, time: this.wall * 1000 + index }
    this.log.push(agreed)
    for (const node of this.nodes) if (!node.isLagging) node.catchUp()
    return agreed
  }

  async close(): Promise<void> {
    for (const node of this.nodes) await node.close()
    rmSync(this.dir, { recursive: true, force: true })
  }
}

interface Waiting {
  readonly index: number
  readonly settle: () => void
}

export class Replica implements Proposer, Replication {
  readonly name: string
  readonly pair: Pair
  readonly pins = new BlobPins()
  readonly outcomes: Outcome[] = []
  /** Applies only with catchUp. */
  isLagging = false
  /** Reaches nobody: what it asks waits until it does. */
  isCut = false
  /** Answers for as long as there is no leader. */
  hasLeader = true
  term = 0
  proposals = 0
  /** Called before a command is proposed here. */
  beforePropose: ((command: Command) => void) | undefined
  rounds = 0
  pushes: { blob: BlobRef; base: BlobRef | undefined }[] = []
  /** undefined: chunks go to the other node. */
  push: ((blob: BlobRef) => Promise<void>) | undefined
  machine = new Machine({ owner })
  tree!: Tree
  store!: Store
  files!: BlobStore
  blobs!: FetchingBlobs
  fill!: BlobFill
  applied = 0
  /** What the machine had saved when the tree was opened. */
  saved: readonly (readonly [string, Uint8Array])[] = []
  #environment!: Environment
  #folders = 0
  #waiting: Waiting[] = []
  readonly #held: (() => void)[] = []

  constructor(pair: Pair, name: string) {
    this.pair = pair
    this.name = name
  }

  get other(): Replica {
    return this.pair.nodes[this === this.pair.nodes[0] ? 1 : 0]
  }

  async open(): Promise<void> {
    this.files = await openFileBlobs({ folder: join(this.pair.dir, this.name, 'blobs') })
    this.blobs = new FetchingBlobs(this.files, async (hash) =>
      (await this.other.files.has(hash)) ? this.other.files.get(hash) : undefined,
    )
    this.fill = new BlobFill({
      store: this.blobs,
      roots: () => this.tree.blobRefs(),
      limits: { blob_fill_again_ms: 5, blob_fill_scan_ms: 5 },
    })
    await this.#openTree()
    this.store = new Store(
      {
        group,
        name: 'data',
        id: 'store',
        incarnation: 'one',
        owner,
        tree: this.tree,
        blobs: this.blobs,
        pins: this.pins,
        clock: { now: () => this.pair.wall * 1000, monotonic: () => this.pair.now },
        random: systemRandom,
        proposer: this,
        replication: this,
        leaseTable: this.machine.leases,
        fill: this.fill,
      },
      this.machine.revision,
    )
  }

  get folder(): string {
    return join(this.pair.dir, this.name, String(this.#folders))
  }

  async #openTree(): Promise<void> {
    this.#environment = await openEnvironment({ dir: join(this.folder, 'tree'), historyDir: join(this.folder, 'history') })
    const isHeld = (ino: number): boolean => this.store.isOpen(ino)
    this.tree = await this.#environment.tree(group, { owner, isHeld, historySegmentBytes: history_segment_bytes })
    this.machine = new Machine({ owner })
    this.saved = this.tree.meta().meta
    this.machine.import(this.saved)
  }

  async close(): Promise<void> {
    this.told(0)
    this.store.close()
    await this.fill.close()
    await this.#environment.close()
    await this.blobs.close()
  }

  // What a test decides

  told(term: number): void {
    this.term = term
    this.store.leading(term)
  }

  /** Apply what was agreed on, up to an index. */
  catchUp(to: number = this.pair.log.length): void {
    while (this.applied < to) {
      const applied = this.machine.apply(this.tree, this.pair.log[this.applied]!)
      this.applied++
      this.outcomes.push(applied.outcome)
      if (applied.revision !== undefined) this.tree.history.append(applied.revision)
      this.store.applied(applied)
      this.#settle()
    }
  }

  heal(): void {
    this.isCut = false
    for (const go of this.#held.splice(0)) go()
  }

  async checkpoint(): Promise<void> {
    const meta = [...this.machine.exportChanged()]
    await this.tree.checkpoint({ appliedIndex: this.applied, revision: this.machine.revision, meta })
    this.machine.exportSaved()
  }

  /** Forget history and what nothing shows any more, as far as that goes. */
  async collect(): Promise<void> {
    await this.checkpoint()
    await this.tree.history.compact({ bytesMax: 0, olderThan: Number.MAX_SAFE_INTEGER })
    while ((await this.tree.collect(1000)) > 0);
  }

  /** The other's state takes the place of this one's, with the history it has. */
  async install(): Promise<void> {
    const { other } = this
    await other.checkpoint()
    const before = this.#environment
    const to = join(this.pair.dir, this.name, String(++this.#folders))
    for (const part of ['tree', 'history']) cpSync(join(other.folder, part), join(to, part), { recursive: true })
    await this.#openTree()
    this.applied = other.applied
    this.store.replaced(this.tree, this.machine.leases, this.machine.revision)
    this.#settle()
    await before.close()
  }

  /** Close and open the tree where it was last saved, then apply the rest. */
  async restart(): Promise<void> {
    await this.#environment.close()
    await this.#openTree()
    this.applied = this.machine.appliedIndex
    this.outcomes.length = this.applied
    this.store.replaced(this.tree, this.machine.leases, this.machine.revision)
    if (!this.isLagging) this.catchUp()
  }

  // Proposer and Replication

  async propose(context: Context, op: string, path: string, command: Command, applied?: () => void): Promise<Outcome> {
    await this.#reach(op, path)
    const outcome = await this.#commit(context, command)
    if (outcome.kind === 'mutation' || outcome.kind === 'txn') applied?.()
    return outcome
  }

  async proposeAsLeader(term: number, context: Context, op: string, path: string, command: Command): Promise<Outcome> {
    await this.#reach(op, path)
    if (this.pair.term !== term || this.pair.leader !== this) throw unavailable(op, path)
    return this.#commit(context, command)
  }

  async linearize(_context: Context, op: string, path: string): Promise<void> {
    this.rounds++
    await this.#reach(op, path)
    await this.#until(this.pair.log.length)
  }

  async renewLease(context: Context, lease: string): Promise<number> {
    await this.#reach('pair.renew', '')
    return this.pair.leader.store.renewAsLeader(context, lease)
  }

  voters(): string {
    return 'both'
  }

  async replicateChunks(_context: Context, _op: string, _path: string, blob: BlobRef, base: BlobRef | undefined): Promise<void> {
    this.pushes.push({ blob, base })
    if (this.push !== undefined) return this.push(blob)
    for await (const { hash } of chunksBeyond(this.files, blob, base)) await this.other.files.put(await this.files.get(hash), hash)
  }

  async #commit(context: Context, command: Command): Promise<Outcome> {
    this.proposals++
    this.beforePropose?.(command)
    const { principal, client, seq, digest, cause, trace } = context
    const { index } = this.pair.commit({
      group,
      actor: principal.name,
      groups: principal.groups,
      client,
      seq,
      digest,
      cause,
      trace,
      command,
    })
    await this.#until(index)
    return this.outcomes[index - 1]!
  }

  async #reach(op: string, path: string): Promise<void> {
    if (!this.hasLeader) throw unavailable(op, path)
    if (this.isCut) await new Promise<void>((resolve) => this.#held.push(resolve))
  }

  #until(index: number): Promise<void> {
    return new Promise((settle) => {
      this.#waiting.push({ index, settle })
      this.#settle()
    })
  }

  #settle(): void {
    const ready = this.#waiting.filter(({ index }) => index <= this.applied)
    this.#waiting = this.#waiting.filter(({ index }) => index > this.applied)
    for (const { settle } of ready) settle()
  }
}

function unavailable(op: string, path: string): NineError {
  return new NineError({ kind: 'unavailable', op, path, message: 'there is no leader here' })
}

export function at(path: string): Path {
  return parsePath(path)
}

export function bytes(text: string): Uint8Array {
  return new Uint8Array(Buffer.from(text))
}

export function contextOf(name = owner, fields: Partial<Context> = {}): Context {
  return { principal: { name, groups: [] }, deadline: Infinity, ...fields }
}

/** Whether the promise has settled when all that can happen now has happened. */
export async function isSettled(promise: Promise<unknown>): Promise<boolean> {
  let settled = false
  const note = (): void => void (settled = true)
  promise.then(note, note)
  for (let i = 0; i < 10; i++) await new Promise((resolve) => setImmediate(resolve))
  return settled
}

export async function hashesIn(store: BlobStore): Promise<ChunkHash[]> {
  const hashes: ChunkHash[] = []
  for await (const { hash } of store.list()) hashes.push(hash)
  return hashes.sort()
}
