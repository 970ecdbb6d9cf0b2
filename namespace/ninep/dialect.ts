/** The tree of each dialect. */
import type { Dialect } from '../../proto/ninep/messages.ts'
import { linuxTree } from './linux-tree.ts'
import { plan9Tree } from './plan9-tree.ts'
import type { Tree } from './tree.ts'

export function treeOf(dialect: Dialect): Tree {
  return dialect === '9P2000.L' ? linuxTree : plan9Tree
}
