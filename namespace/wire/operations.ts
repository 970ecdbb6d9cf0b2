/** Every operation of FileServer by the type of its frames. */
import {
  closeHandleOperation,
  grantLeaseOperation,
  lockOperation,
  openOperation,
  readHandleOperation,
  renewLeaseOperation,
} from './handles.ts'
import { revokeLeaseOperation, statHandleOperation, syncHandleOperation, truncateHandleOperation, writeHandleOperation } from './handles.ts'
import { createOperation, mkdirOperation, removeOperation, renameOperation, setRightsOperation, setStatOperation } from './mutations.ts'
import { symlinkOperation, writeOperation } from './mutations.ts'
import type { Operation } from './operation.ts'
import { getRightsOperation, listOperation, readlinkOperation, readOperation, statOperation } from './reads.ts'
import { txnOperation } from './txn.ts'

export const operations = [
  statOperation,
  listOperation,
  readOperation,
  writeOperation,
  createOperation,
  mkdirOperation,
  symlinkOperation,
  readlinkOperation,
  removeOperation,
  renameOperation,
  setStatOperation,
  txnOperation,
  grantLeaseOperation,
  renewLeaseOperation,
  revokeLeaseOperation,
  lockOperation,
  openOperation,
  readHandleOperation,
  writeHandleOperation,
  truncateHandleOperation,
  statHandleOperation,
  syncHandleOperation,
  closeHandleOperation,
  getRightsOperation,
  setRightsOperation,
] as const

/** An operation whose arguments and answer only it understands. */
export type OpaqueOperation = Operation<unknown, unknown>

/** By type; a hole where there is no operation. */
export const operationsByType: readonly (OpaqueOperation | undefined)[] = tableOf(operations as unknown as readonly OpaqueOperation[])

function tableOf(all: readonly OpaqueOperation[]): (OpaqueOperation | undefined)[] {
  const table = new Array<OpaqueOperation | undefined>(0x80).fill(undefined)
  for (const operation of all) table[operation.type] = operation
  return table
}
