/** Lanes over real databases, driven command by command, for tests of snapshots. */
import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import type { Path } from '../../namespace/path.ts'
import { Machine } from '../../storage/apply/machine.ts'
import { Lane } from '../../storage/engine/lane.ts'
import { rootIno, type Command, type NodeRecord, type Outcome, type TreeView } from '../../storage/model.ts'
import { openSource } from '../../storage/snapshot/files.ts'
import { loadSnapshot, type LoadedSnapshot, type LoadOptions } from '../../storage/snapshot/load.ts'
import type { SnapshotIdentity } from '../../storage/snapshot/write.ts'
import { openEnvironment, type Environment } from '../../storage/tree/environment.ts'
import { entryOf, owner, textOf, type Caller } from './apply-machine.ts'

const folders: string[] = []
const environments: Environment[] = []

export async function removeFolders(): Promise<void> {
  for (const environment of environments.splice(0)) await environment.close()
  for (const folder of folders.splice(0)) rmSync(folder, { recursive: true, force: true })
}

export function folder(): string {
  const dir = mkdtempSync(join(tmpdir(), 'nine-snapshot-'))
  folders.push(dir)
  return dir
}

export function identityOf(group: number): SnapshotIdentity {
  return { store: 'store', incarnation: 'first', name: 'data', owner, group }
}

/** A lane of a database, which may be opened again. */
export class Driven {
  environment!: Environment
  lane!: Lane
  readonly dir: string
  readonly group: number

  private constructor(dir: string, group: number) {
    this.dir = dir
    this.group = group
  }

  static async open(dir = folder(), group = 1): Promise<Driven> {
    const driven = new Driven(dir, group)
    await driven.reopen()
    return driven
  }

  /** As after a crash, where nothing was saved. */
  async reopen(): Promise<void> {
    await this.close()
    this.environment = await openEnvironment({ dir: join(this.dir, 'tree'), historyDir: join(this.dir, 'history'), mapBytes: 1024 * 1024 })
    environments.push(this.environment)
    const tree = await this.environment.tree(this.group, { owner, apartOver: 40, historySegmentBytes: 3000 })
    const { appliedIndex, revision, meta } = tree.meta()
    const machine = new Machine({ owner })
    machine.import(meta)
    this.lane = new Lane(this.group, 'data', machine, tree, 'log', appliedIndex, revision)
  }

  async close(): Promise<void> {
    const at = environments.indexOf(this.environment)
    if (at < 0) return
    environments.splice(at, 1)
    await this.environment.close()
  }

  apply(command: Command, caller: Caller = {}): Outcome {
    const index = this.lane.nextIndex++
    return this.lane.apply(entryOf(index, command, caller), index)
  }

  load(path: string, options: LoadOptions = {}): Promise<LoadedSnapshot> {
    return loadFile(this.environment, path, { group: this.group, ...options })
  }

  /** Everything that can be seen of it. */
  seen(): string[] {
    const { tree } = this.lane
    const { history } = tree
    const seen = [`index ${this.lane.appliedIndex} revision ${this.lane.revision} floor ${history.floor} next ${tree.nextIno}`]
    seen.push(textOf(this.lane.machine.leases.list().sort((a, b) => (a.id < b.id ? -1 : 1))))
    for (let revision = history.floor + 1; revision <= history.last; revision++) {
      const { time, actor, cause, events, images } = history.read(revision, 1)[0]!
      seen.push(textOf({ revision, time, actor, cause, events: events.map(eventOf), images: images.map(imageOf) }))
    }
    for (let revision = history.floor; revision <= this.lane.revision; revision++) seen.push(...walked(tree.at(revision)))
    seen.push(...walked(tree.newest))
    return seen
  }
}

export async function loadFile(environment: Environment, path: string, options: LoadOptions = {}): Promise<LoadedSnapshot> {
  const source = await openSource(path)
  try {
    return await loadSnapshot(environment, source, options)
  } finally {
    await source.close()
  }
}

function eventOf(event: {
  type: string
  path: Path
  from: Path | undefined
  subtree: boolean
  node: NodeRecord
  previous: NodeRecord | undefined
}): unknown {
  const { type, path, from, subtree, node, previous } = event
  return { type, path, from, subtree, node: recordOf(node), previous: previous === undefined ? null : recordOf(previous) }
}

function imageOf(image: { kind: string; after: object; before: object | undefined; beforeSince: number | undefined }): unknown {
  return { kind: image.kind, after: image.after, before: image.before ?? null, beforeSince: image.beforeSince }
}

function recordOf(node: NodeRecord): unknown {
  const { content } = node
  return { ...node, content: content.kind === 'inline' ? { kind: 'inline', bytes: content.bytes } : content }
}

/** Every node below the root, with its path. */
export function walked(view: TreeView): string[] {
  const seen: string[] = []
  const visit = (path: string, ino: number): void => {
    const node = view.node(ino)!
    seen.push(`${path} ${textOf(recordOf(node))}`)
    if (node.kind !== 'directory') return
    for (const entry of view.children(ino, '', Infinity)) visit(`${path}/${entry.name}`, entry.ino)
  }
  visit('', rootIno)
  return seen
}
