/** How many entries a second go through three cores in one process, with disks and a network that cost nothing. */
import { expect, it } from 'vitest'
import { makeRaft, step } from '../../raft/index.ts'
import type { Effects, Input, Raft } from '../../raft/index.ts'
import { optionsOfTests } from './cluster.ts'

const ids = ['n1', 'n2', 'n3']
const entries = Number(process.env.NINE_RAFT_ENTRIES ?? 300_000)

it.each([1, 20, 200])('takes, replicates and applies entries, %i a turn', (batch) => {
  const group = new Group()
  group.run(
    'n1',
    Array.from({ length: 12 }, (): Input => ({ kind: 'tick', jitter: 0 })),
  )
  expect(group.rafts.get('n1')!.role).toBe('leader')
  const data = Array.from({ length: batch }, () => new Uint8Array(256))
  const begun = performance.now()
  for (let taken = 0; taken < entries; taken += batch) {
    group.run('n1', [{ kind: 'propose', ref: 1, data }])
    if (taken % 10_000 < batch) group.compact()
  }
  const seconds = (performance.now() - begun) / 1000
  group.run('n1', [
    { kind: 'tick', jitter: 0 },
    { kind: 'tick', jitter: 0 },
  ])
  for (const id of ids) expect(group.rafts.get(id)!.applied).toBeGreaterThanOrEqual(entries)
  console.log(`raft: ${Math.round(entries / seconds).toLocaleString('en')} entries/s through three cores, ${batch} a turn`)
})

class Group {
  readonly rafts = new Map<string, Raft>()
  private readonly inputs = new Map<string, Input[]>(ids.map((id) => [id, []]))

  constructor() {
    const configuration = { voters: ids, outgoing: [], learners: [], demoted: [] }
    for (const id of ids) {
      const snapshot = { index: 0, term: 0, configuration }
      const options = { ...optionsOfTests, id, incarnation: 1, uncommitted_bytes_max: 1e9 }
      this.rafts.set(id, makeRaft(options, { hard: { term: 0, vote: null }, snapshot, entries: [], applied: 0 }))
    }
  }

  /** Turns of all three, until nothing is left to do. */
  run(id: string, inputs: Input[]): void {
    this.inputs.get(id)!.push(...inputs)
    for (let busy = true; busy;) {
      busy = false
      for (const [member, raft] of this.rafts) {
        const turn = this.inputs.get(member)!
        if (turn.length === 0) continue
        busy = true
        this.inputs.set(member, [])
        this.carryOut(member, step(raft, turn))
      }
    }
  }

  compact(): void {
    for (const [id, raft] of this.rafts) {
      this.run(id, [
        { kind: 'snapshot_taken', index: raft.applied },
        { kind: 'compact', index: raft.applied - 1000 },
      ])
    }
  }

  private carryOut(id: string, { persist, send, apply }: Effects): void {
    const own = this.inputs.get(id)!
    if (persist !== null) own.push({ kind: 'persisted', ticket: persist.ticket })
    if (apply !== null && apply.entries.length > 0) own.push({ kind: 'applied', index: apply.entries[apply.entries.length - 1]!.index })
    for (const message of send) this.inputs.get(message.to)!.push({ kind: 'message', message })
  }
}
