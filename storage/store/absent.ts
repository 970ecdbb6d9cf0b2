/**
 * What is told of a place where nothing is, or that is not for the one who asks. A principal without `read` or `list` at the
 * deepest place that exists is told `denied`, whether or not anything exists.
 */
import { maskAt, seeBits } from '../apply/rights.ts'
import { deepestNode } from '../apply/walk.ts'
import { NineError } from '../../namespace/errors.ts'
import type { Path } from '../../namespace/path.ts'
import type { Principal } from '../../namespace/rights.ts'
import type { NodeRecord, TreeView } from '../model.ts'

/** Why there is nothing at `path`, as the principal may know it. */
export function missing(view: TreeView, path: Path, principal: Principal, owner: string, op: string): NineError {
  const { node, path: at } = deepestNode(view, path)
  if (node === undefined || (maskAt(view, node, principal, owner) & seeBits) === 0) return denied(op, path)
  if (node.kind === 'directory') return new NineError({ kind: 'not_found', op, path, message: `${path} does not exist` })
  return new NineError({ kind: 'not_directory', op, path, message: `${at} is a ${node.kind}, not a directory` })
}

export function denied(op: string, path: string): NineError {
  return new NineError({ kind: 'denied', op, path, message: `this is not allowed at ${path}` })
}

/** Why a node that is no file has no bytes to read or write. */
export function notAFile(node: NodeRecord, op: string, path: string): NineError {
  if (node.kind === 'directory') return new NineError({ kind: 'is_directory', op, path, message: `${path} is a directory` })
  return new NineError({ kind: 'invalid', op, path, message: `${path} is a symbolic link: readlink gives its target` })
}
