/**
 * From a path to a node of one view, and what a principal may do there.
 *
 * A principal without `read` or `list` at a place is told `denied` there, whether or not anything exists.
 */
import { NineError } from '../../namespace/errors.ts'
import type { Path } from '../../namespace/path.ts'
import { everyRight, grantedBy, rightBit, type Principal, type RightsMask } from '../../namespace/rights.ts'
import { rootIno, type NodeRecord, type TreeView } from '../model.ts'

export const readBit = rightBit('read')
export const listBit = rightBit('list')
export const adminBit = rightBit('admin')
/** Either lets its holder see that something exists, and its Stat. */
export const seeBits = readBit | listBit

/** The node at `path`, or undefined. */
export function find(view: TreeView, path: Path): NodeRecord | undefined {
  let ino: number | undefined = rootIno
  if (path.length > 1) {
    let start = 1
    for (;;) {
      const slash = path.indexOf('/', start)
      ino = view.child(ino, slash < 0 ? path.slice(start) : path.slice(start, slash))
      if (ino === undefined) return undefined
      if (slash < 0) break
      start = slash + 1
    }
  }
  return view.node(ino)
}

/** The deepest node on the way to `path` that exists. */
export function deepest(view: TreeView, path: Path): { readonly node: NodeRecord; readonly path: Path } {
  let node = view.node(rootIno)!
  let end = 0
  while (path.length > 1 && end < path.length) {
    const slash = path.indexOf('/', end + 1)
    const next = slash < 0 ? path.length : slash
    const child = view.child(node.ino, path.slice(end + 1, next))
    const found = child === undefined ? undefined : view.node(child)
    if (found === undefined) break
    node = found
    end = next
  }
  return { node, path: (end === 0 ? '/' : path.slice(0, end)) as Path }
}

/** The directory whose record decides for `node`, or undefined where none stands on the way up. */
export function deciding(view: TreeView, node: NodeRecord): NodeRecord | undefined {
  let at: NodeRecord | undefined = node
  while (at !== undefined) {
    if (at.rights !== undefined) return at
    if (at.ino === rootIno) return undefined
    at = view.node(at.parent)
  }
  return undefined
}

/** Rights of a principal at a node; also of a node that was unlinked, by what it hung below. */
export function rightsOf(view: TreeView, node: NodeRecord, principal: Principal, owner: string): RightsMask {
  if (principal.name === owner) return everyRight
  const record = deciding(view, node)?.rights
  return record === undefined ? 0 : grantedBy(record, principal)
}

/** Why there is nothing at `path`, as the principal may know it. */
export function missing(view: TreeView, path: Path, principal: Principal, owner: string, op: string): NineError {
  const { node, path: at } = deepest(view, path)
  if ((rightsOf(view, node, principal, owner) & seeBits) === 0) return denied(op, path)
  if (node.kind === 'directory') return new NineError({ kind: 'not_found', op, path, message: `${path} does not exist` })
  return new NineError({ kind: 'not_directory', op, path, message: `${at} is a ${node.kind}, not a directory` })
}

export function denied(op: string, path: string): NineError {
  return new NineError({ kind: 'denied', op, path, message: `this is not allowed at ${path}` })
}
