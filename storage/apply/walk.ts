/** Between paths and nodes of one state of the tree. Symlinks are never followed: a way through one leads nowhere. */
import { joinName, rootPath, type Path } from '../../namespace/path.ts'
import { rootIno, type Ino, type NodeRecord, type TreeView } from '../model.ts'

/** Where a path leads: the directory it stands in, its name there, and what is there now. */
export interface Place {
  /** Has children, or is whatever else the way to it ended in: see `node`. 0 for the root itself. */
  readonly parent: Ino
  readonly name: string
  readonly ino: Ino | undefined
}

const rootPlace: Place = { parent: 0, name: '', ino: rootIno }

/** undefined when something is missing on the way, other than the last name. */
export function placeOf(view: TreeView, path: Path): Place | undefined {
  if (path.length === 1) return rootPlace
  let parent: Ino = rootIno
  let start = 1
  for (;;) {
    const slash = path.indexOf('/', start)
    if (slash < 0) break
    const next = view.child(parent, path.slice(start, slash))
    if (next === undefined) return undefined
    parent = next
    start = slash + 1
  }
  const name = path.slice(start)
  return { parent, name, ino: view.child(parent, name) }
}

/** The node at `path`, or undefined. */
export function nodeAt(view: TreeView, path: Path): NodeRecord | undefined {
  const ino = placeOf(view, path)?.ino
  return ino === undefined ? undefined : view.node(ino)
}

/** The deepest node on the way to `path` that exists, itself included. */
export function deepestNode(view: TreeView, path: Path): { readonly node: NodeRecord | undefined; readonly path: Path } {
  let node = view.node(rootIno)
  let end = 0
  while (node !== undefined && path.length > 1 && end < path.length) {
    const slash = path.indexOf('/', end + 1)
    const next = slash < 0 ? path.length : slash
    const child = view.child(node.ino, path.slice(end + 1, next))
    const found = child === undefined ? undefined : view.node(child)
    if (found === undefined) break
    node = found
    end = next
  }
  return { node, path: end === 0 ? rootPath : (path.slice(0, end) as Path) }
}

/** Path of a node as it is in this view; undefined when it, or something above it, was unlinked. */
export function pathOf(view: TreeView, node: NodeRecord): Path | undefined {
  const names: string[] = []
  let at = node
  while (at.ino !== rootIno) {
    if (view.child(at.parent, at.name) !== at.ino) return undefined
    names.push(at.name)
    const parent = view.node(at.parent)
    if (parent === undefined) return undefined
    at = parent
  }
  let path = rootPath
  for (let i = names.length - 1; i >= 0; i--) path = joinName(path, names[i]!)
  return path
}
