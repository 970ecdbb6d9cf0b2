/** A change that is larger than the log takes is refused, alone, wherever it is asked for. */
import { afterEach, describe, expect, it } from 'vitest'
import { contextFor } from '../../namespace/context.ts'
import type { TxnOperation } from '../../namespace/file-server.ts'
import { limits } from '../../namespace/limits.ts'
import { parsePath } from '../../namespace/path.ts'
import { startCluster, type LocalCluster } from './cluster.ts'

const context = contextFor({ name: 'glenda', groups: [] }, 60_000)

let cluster: LocalCluster
afterEach(() => cluster.close())

/** Within all limits of a transaction: as many writes as its bytes allow, and links with the longest targets. */
function operations(links: number, name: string): TxnOperation[] {
  const bytes = Buffer.alloc(limits.inline_bytes_max, 1)
  const writes = limits.txn_bytes_max / bytes.length
  return [
    ...Array.from({ length: writes }, (_, i): TxnOperation => ({ op: 'write', path: parsePath(`/w${i}`), bytes })),
    ...Array.from({ length: links }, (_, i): TxnOperation => {
      return { op: 'symlink', path: parsePath(`/${name.padEnd(200, '.')}${i}`), target: 't'.repeat(limits.symlink_bytes_max) }
    }),
  ]
}

describe('a transaction within all limits', () => {
  it('is refused where the log cannot take it, at the leader and at others, and nothing ends', async () => {
    cluster = await startCluster()
    const leader = await cluster.leader()
    const nodes = [...cluster.nodes.values()]
    const most = limits.txn_operations_max - limits.txn_bytes_max / limits.inline_bytes_max
    for (const node of [leader, nodes.find((other) => other !== leader)!]) {
      const refused = node.store.txn(context, { if: [], then: operations(most, 'none'), else: [] })
      await expect(refused).rejects.toMatchObject({ kind: 'too_large', outcome: 'none' })
    }
    for (const node of nodes) {
      await node.store.txn(context, { if: [], then: operations(800, node.id), else: [] })
      expect(node.engine!.member!.replica(1)!.group.isRunning).toBe(true)
    }
  })
})
