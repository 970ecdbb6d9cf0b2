/** Why a handle cannot be used. */
import { NineError } from '../../namespace/errors.ts'
import type { IfMatch } from '../../namespace/file-server.ts'
import type { NodeRecord } from '../model.ts'

export function closed(op: string, path: string): NineError {
  return new NineError({ kind: 'unavailable', op, path, message: 'the session, or the store, was closed' })
}

export function wrongMode(op: string, path: string, what: string): NineError {
  return new NineError({ kind: 'invalid', op, path, message: `this handle was not opened for ${what}` })
}

export function restored(op: string, path: string): NineError {
  return new NineError({ kind: 'compacted', op, path, message: 'the store has been restored since this handle was opened: open it again' })
}

export function checkMatch(node: NodeRecord, ifMatch: IfMatch, op: string, path: string): void {
  if (ifMatch !== 'none' && ifMatch.path === node.ino && ifMatch.version === node.version) return
  throw new NineError({ kind: 'conflict', op, path, message: `${path} is at version ${node.version} of file ${node.ino}` })
}
