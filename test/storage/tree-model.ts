/** A tiny model of a versioned tree, commands that act on both it and the real one, and how the two are compared. */
import { expect } from 'vitest'
import { compareNames } from '../../namespace/path.ts'
import type { Path } from '../../namespace/path.ts'
import {
  rootIno,
  type Content,
  type Image,
  type Ino,
  type NodeRecord,
  type Revision,
  type StoreEvent,
  type TreeView,
} from '../../storage/model.ts'
import type { Tree } from '../../storage/tree/tree.ts'

export function record(fields: Partial<NodeRecord> & { ino: Ino; since: number }): NodeRecord {
  return {
    kind: 'file',
    parent: rootIno,
    name: `n${fields.ino}`,
    version: 1,
    revision: fields.since,
    createdRevision: fields.since,
    mode: 0o644,
    owner: 'ann',
    group: 'ann',
    modifiedBy: 'ann',
    createdAt: 1_700_000_000_000_000,
    modifiedAt: 1_700_000_000_000_000 + fields.since,
    contentType: undefined,
    lease: undefined,
    rights: undefined,
    content: { kind: 'none' },
    ...fields,
  }
}

export function inline(text: string | Uint8Array): Content {
  return { kind: 'inline', bytes: Buffer.from(text as string) }
}

export function revisionOf(revision: number, images: readonly Image[], events: readonly StoreEvent[] = []): Revision {
  return { revision, time: 1000 * revision, actor: 'ann', cause: revision % 2 === 0 ? 'why' : undefined, events, images }
}

/** State of the model at one revision: plain objects. */
export interface ModelState {
  nodes: Map<Ino, NodeRecord>
  entries: Map<string, Ino>
}

/** One step of a random program. Numbers choose among what there is. */
export interface Step {
  readonly kind: 'create' | 'mkdir' | 'write' | 'remove' | 'rename' | 'replace'
  readonly pick: number
  readonly into: number
  readonly name: string
  readonly size: number
}

export class Model {
  /** By revision. */
  readonly states: ModelState[]
  readonly programs: Step[][] = [[]]
  state: ModelState

  constructor(root: NodeRecord) {
    this.state = { nodes: new Map([[rootIno, root]]), entries: new Map() }
    this.states = [copyOf(this.state)]
  }

  /** Forget everything after `revision`, as a crash does. Gives the programs that were lost. */
  rewind(revision: number): Step[][] {
    this.states.length = revision + 1
    this.state = copyOf(this.states[revision]!)
    return this.programs.splice(revision + 1)
  }

  get revision(): number {
    return this.states.length - 1
  }
}

/** Run a program as one transaction on both; roll it back on both when `isKept` is false. */
export function runProgram(tree: Tree, model: Model, program: readonly Step[], isKept = true): void {
  const revision = model.revision + 1
  const transaction = tree.begin(revision)
  const { nodes, entries } = model.state
  const events: StoreEvent[] = []
  const put = (node: NodeRecord): void => {
    transaction.put(node)
    nodes.set(node.ino, node)
  }
  for (const step of program) {
    const names = [...entries.keys()]
    const key = names[step.pick % Math.max(1, names.length)]
    const node = key === undefined ? undefined : nodes.get(entries.get(key)!)!
    const directories = [...nodes.values()].filter((n) => n.kind === 'directory' && isReachable(model.state, n.ino))
    const into = directories[step.into % directories.length]!
    const target = `${into.ino}/${step.name}`
    if (step.kind === 'create' || step.kind === 'mkdir') {
      if (entries.has(target)) continue
      const ino = transaction.nextIno()
      const kind = step.kind === 'mkdir' ? 'directory' : 'file'
      const content = kind === 'file' && step.size > 0 ? inline(Buffer.alloc(step.size, ino)) : ({ kind: 'none' } as const)
      put(record({ ino, since: revision, kind, parent: into.ino, name: step.name, content }))
      transaction.link(into.ino, step.name, ino)
      entries.set(target, ino)
      events.push({
        type: 'create',
        path: `/${step.name}` as Path,
        from: undefined,
        subtree: false,
        node: nodes.get(ino)!,
        previous: undefined,
      })
    } else if (node === undefined || key === undefined) continue
    else if (step.kind === 'write') {
      const content = inline(Buffer.alloc(step.size, revision))
      put({ ...node, since: revision, version: node.version + 1, revision, content })
      events.push({ type: 'change', path: '/w' as Path, from: undefined, subtree: false, node: nodes.get(node.ino)!, previous: node })
    } else if (step.kind === 'remove') {
      transaction.unlink(node.parent, node.name)
      entries.delete(key)
      events.push({ type: 'remove', path: '/r' as Path, from: undefined, subtree: node.kind === 'directory', node, previous: undefined })
    } else {
      if (isWithin(model.state, into.ino, node.ino) || target === key) continue
      if (entries.has(target) && step.kind === 'rename') continue
      if (isWithin(model.state, node.ino, entries.get(target) ?? 0)) continue
      transaction.unlink(node.parent, node.name)
      entries.delete(key)
      put({ ...node, since: revision, parent: into.ino, name: step.name })
      transaction.link(into.ino, step.name, node.ino)
      entries.set(target, node.ino)
      events.push({
        type: 'rename',
        path: '/to' as Path,
        from: '/from' as Path,
        subtree: false,
        node: nodes.get(node.ino)!,
        previous: node,
      })
    }
  }
  if (!isKept) {
    transaction.rollback()
    model.state = copyOf(model.states[model.revision]!)
    return
  }
  const images = transaction.commit()
  if (images.length === 0) return
  model.states.push(copyOf(model.state))
  model.programs.push([...program])
  tree.history.append(revisionOf(revision, images, events))
}

function isReachable(state: ModelState, ino: Ino): boolean {
  for (let at = ino; at !== rootIno;) {
    const node = state.nodes.get(at)!
    if (state.entries.get(`${node.parent}/${node.name}`) !== at) return false
    at = node.parent
  }
  return true
}

function isWithin(state: ModelState, ino: Ino, ancestor: Ino): boolean {
  for (let at = ino; ; at = state.nodes.get(at)!.parent) {
    if (at === ancestor) return true
    if (at === rootIno) return false
  }
}

function copyOf(state: ModelState): ModelState {
  return { nodes: new Map(state.nodes), entries: new Map(state.entries) }
}

/** The view shows exactly what the model's state has: every reachable node, its children in order, pages of `pageSize`. */
export function expectSame(view: TreeView, state: ModelState, pageSize = 3): void {
  const wanted = new Map<Ino, [string, Ino][]>()
  for (const [key, ino] of state.entries) {
    const slash = key.indexOf('/')
    const parent = Number(key.slice(0, slash))
    const list = wanted.get(parent) ?? []
    list.push([key.slice(slash + 1), ino])
    wanted.set(parent, list)
  }
  const queue: Ino[] = [rootIno]
  for (let ino = queue.pop(); ino !== undefined; ino = queue.pop()) {
    expect(plain(view.node(ino))).toEqual(plain(state.nodes.get(ino)))
    const children = (wanted.get(ino) ?? []).sort((a, b) => compareNames(a[0], b[0]))
    const found: [string, Ino][] = []
    for (let after = ''; ;) {
      const page = view.children(ino, after, pageSize)
      for (const entry of page) found.push([entry.name, entry.ino])
      if (page.length < pageSize) break
      after = page[page.length - 1]!.name
    }
    expect(found).toEqual(children)
    for (const [name, child] of children) {
      expect(view.child(ino, name)).toBe(child)
      queue.push(child)
    }
    expect(view.child(ino, 'no such name')).toBeUndefined()
  }
}

/** A record with its bytes fetched, as plain data. */
export function plain(node: NodeRecord | undefined): unknown {
  if (node === undefined) return undefined
  const content = node.content.kind === 'inline' ? Buffer.from(node.content.bytes).toString('base64') : node.content
  return { ...node, content }
}
