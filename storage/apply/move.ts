/**
 * Commands that take names away or change them: remove and rename. Their cost does not depend on the size of a tree.
 *
 * M1 remove needs `remove` at the parent, and at the directory itself where it has a record of its own; rename needs the
 *    same at its source, `create` where it goes, and what remove needs for what it replaces. Records deeper inside a
 *    tree are not looked at, which would take its size: who may remove a directory may remove all that is below it.
 * M2 A tree takes the records inside it along. Where it has none on its top and comes under another record than before,
 *    its mover needs `read` too (`list` as well for a directory): otherwise a rename would open to readers there what the
 *    record here had closed, to the mover or to whoever the mover works for.
 */
import { isWithin, type Path } from '../../namespace/path.ts'
import { rootIno, type Ino, type NodeRecord, type StoredMutation, type TreeCommand } from '../model.ts'
import { checkMatch, checkNotRoot, refusal, type Change } from './change.ts'
import { movedNode, mutationOf } from './records.ts'
import { createBit, decidingNode, listBit, readBit, removeBit } from './rights.ts'
import { placeOf } from './walk.ts'
import { directoryFor } from './write.ts'

type RemoveCommand = Extract<TreeCommand, { op: 'remove' }>
type RenameCommand = Extract<TreeCommand, { op: 'rename' }>

export function applyRemove(change: Change, command: RemoveCommand): StoredMutation {
  const op = 'apply.remove'
  const { node, path } = change.find(command.target, op)
  needRemove(change, node, op, path)
  checkNotRoot(node.ino, op, path)
  checkMatch(node, command.ifMatch, op, path)
  if (command.recursive !== true && node.kind === 'directory' && change.tree.children(node.ino, '', 1).length > 0) {
    throw refusal('not_empty', op, path, `${path} is not empty`)
  }
  takeAway(change, node, path)
  return mutationOf(node, change.revision, false)
}

export function applyRename(change: Change, command: RenameCommand): StoredMutation {
  const op = 'apply.rename'
  const { to } = command
  const { node, path } = change.find(command.target, op)
  needRemove(change, node, op, path) // M1
  checkNotRoot(node.ino, op, path)
  checkMatch(node, command.ifMatch, op, path)
  if (to === path) return mutationOf(node, change.shownRevision, false)
  if (isWithin(to, path)) throw refusal('invalid', op, path, `${path} cannot be moved below itself`)
  const parent = makeRoom(change, command, node, op)
  needToMove(change, node, parent, op, path)
  const name = to.slice(to.lastIndexOf('/') + 1)
  const moved = movedNode(node, parent, name, change.revision)
  change.put(moved)
  change.tree.unlink(node.parent, node.name)
  change.tree.link(parent, name, node.ino)
  change.emit('rename', to, path, node.kind === 'directory', moved, node)
  return mutationOf(moved, change.revision, false)
}

/** Unlink a node and tell so. Its lease no longer has it. */
export function takeAway(change: Change, node: NodeRecord, path: Path): void {
  change.unlink(node.parent, node.name)
  if (node.lease !== undefined) change.leases.detach(node.lease, node.ino)
  change.emit('remove', path, undefined, node.kind === 'directory', node, node)
}

/** M1 */
function needRemove(change: Change, node: NodeRecord, op: string, path: Path): void {
  if (change.isOwner) return
  change.need(node, removeBit, op, path)
  if (node.rights !== undefined && node.ino !== rootIno) change.need(change.node(node.parent, op), removeBit, op, path)
}

/** The directory a node goes to, in which nothing has the new name any more. */
function makeRoom(change: Change, command: RenameCommand, node: NodeRecord, op: string): Ino {
  const { to } = command
  const place = placeOf(change.tree, to)
  if (place?.ino === undefined) return directoryFor(change, to, command.parents === true, op)
  const there = change.node(place.ino, op)
  change.needToSee(there, createBit, op, to)
  if (command.replace !== true) throw refusal('exists', op, to, `${to} exists`)
  checkNotRoot(there.ino, op, to)
  change.need(change.node(place.parent, op), createBit, op, to)
  needRemove(change, there, op, to)
  if (there.kind === 'directory') {
    if (node.kind !== 'directory') throw refusal('is_directory', op, to, `${to} is a directory`)
    if (change.tree.children(there.ino, '', 1).length > 0) throw refusal('not_empty', op, to, `${to} is not empty`)
  } else if (node.kind === 'directory') {
    throw refusal('not_directory', op, to, `${to} is a ${there.kind}, which no directory can take the place of`)
  }
  takeAway(change, there, to)
  return place.parent
}

/** M2 */
function needToMove(change: Change, node: NodeRecord, parent: Ino, op: string, path: Path): void {
  if (change.isOwner || node.rights !== undefined || node.parent === parent) return
  const before = decidingNode(change.tree, node)
  const after = decidingNode(change.tree, change.node(parent, op))
  if (before?.ino === after?.ino) return
  change.need(node, node.kind === 'directory' ? readBit | listBit : readBit, op, path)
}
