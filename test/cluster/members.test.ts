/** What is said of the members of a group, from what its leader knows of them. */
import { describe, expect, it } from 'vitest'
import type { PeerStatus } from '../../raft/index.ts'
import { Operations } from '../../services/cluster/operations.ts'
import type { OperationsParts } from '../../services/cluster/operations.ts'

/** Of a group that n1 leads, whose log ends at 100. */
async function behind(peers: readonly PeerStatus[]): Promise<Record<string, number | undefined>> {
  const configuration = { voters: ['n1.a', ...peers.map(({ id }) => id)], outgoing: [], learners: [], demoted: [] }
  const status = { group: 1, role: 'leader', leader: 'n1.a', last: 100, configuration, peers }
  const parts = {
    member: 'n1.a',
    version: '1',
    stores: { group: () => ({ status: () => status }) },
    view: { members: { names: new Map() } },
    peer: { status: () => ({ peers: [] }), request: () => Promise.reject(new Error('not reached')) },
    addressOf: () => undefined,
  }
  const rows = await new Operations(parts as unknown as OperationsParts).members('data')
  return Object.fromEntries(rows.map((row) => [row.node, row.behind]))
}

describe('how far a member is behind', () => {
  it('is known once this leader has heard from it', async () => {
    const heard: PeerStatus = { id: 'n2.a', match: 98, state: 'replicate', isActive: true }
    const silent: PeerStatus = { id: 'n3.a', match: 0, state: 'probe', isActive: false }
    expect(await behind([heard, silent])).toEqual({ n1: 0, n2: 2, n3: undefined })
    expect(await behind([heard, { ...silent, state: 'snapshot' }])).toEqual({ n1: 0, n2: 2, n3: 100 })
    expect(await behind([{ ...heard, state: 'probe' }])).toEqual({ n1: 0, n2: 2 })
  })
})
