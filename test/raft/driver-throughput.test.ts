/** How many proposals a second go through three drivers in one process, with disks, a network and state machines that cost nothing. */
import { expect, it } from 'vitest'
import { Driver } from '../../raft/index.ts'
import type { Entry, Group, PeerItem } from '../../raft/index.ts'
import { optionsOfTests } from './cluster.ts'

const ids = ['n1', 'n2', 'n3']
const proposals = Number(process.env.NINE_DRIVER_PROPOSALS ?? 200_000)

it.each([1, 20, 200])('takes, replicates and answers proposals, %i in flight', (inFlight) => {
  const work: (() => void)[] = []
  const items: [from: string, to: string, item: PeerItem][] = []
  const drivers = new Map<string, Driver<number>>()
  const groups = new Map<string, Group<number>>()
  const data = new Uint8Array(256)
  let answered = 0
  for (const id of ids) {
    const driver = new Driver<number>({
      id,
      life: 1,
      storage: { write: (_group, _persist, done) => void work.push(done) },
      transport: { send: (to, item) => void items.push([id, to, item]), sendSnapshot: () => Promise.resolve(false) },
      host: { defer: (turn) => void work.push(turn), after: (_ms, turn) => void work.push(turn), random: () => 0 },
      options: { ...optionsOfTests, uncommitted_bytes_max: 1e9 },
      quiesce_ticks: 5,
      apply_entries_max: 1000,
      apply_bytes_max: 1e6,
      keep_entries_max: 1000,
      keep_bytes_max: 1e6,
      commit_wait_ms: 1,
    })
    drivers.set(id, driver)
    const machine = {
      isBusy: false,
      apply: (entry: Entry, proposal: number | undefined) => {
        if (proposal !== undefined && ++answered + inFlight <= proposals) groups.get('n1')!.propose(data, proposal)
        if (entry.index % 5000 === 0) groups.get(id)!.checkpointed(entry.index)
      },
      install: () => Promise.resolve(),
      ended: () => expect.unreachable(),
      changed: () => undefined,
      stopped: (error: unknown) => {
        throw error
      },
    }
    const configuration = { voters: ids, outgoing: [], learners: [], demoted: [] }
    const restored = { hard: { term: 0, vote: null }, snapshot: { index: 0, term: 0, configuration }, entries: [], applied: 0 }
    groups.set(id, driver.open(1, restored, machine))
  }
  const run = (): void => {
    while (work.length + items.length > 0) {
      for (const one of work.splice(0)) one()
      for (const [from, to, item] of items.splice(0)) drivers.get(to)!.receive(from, item)
    }
  }
  for (let ticks = 0; ticks < 12; ticks++) {
    drivers.get('n1')!.tick()
    run()
  }
  const begun = performance.now()
  for (let count = 0; count < inFlight; count++) groups.get('n1')!.propose(data, count)
  run()
  const seconds = (performance.now() - begun) / 1000
  expect(answered).toBe(proposals)
  console.log(`driver: ${Math.round(proposals / seconds).toLocaleString('en')} proposals/s through three drivers, ${inFlight} in flight`)
})
