/** What a node keeps of the nodes with which it has resting groups in common. */
import { expect, it } from 'vitest'
import { Rest } from '../../raft/driver/rest.ts'
import type { Sleeper } from '../../raft/driver/rest.ts'
import type { Raft } from '../../raft/index.ts'

it('keeps nothing of a node once no group rests with it, and nothing of who was only heard', () => {
  const sent: string[] = []
  const rest = new Rest({ life: 1, election_ticks: 10, heartbeat_ticks: 1 }, (to) => void sent.push(to), () => 0) // prettier-ignore
  const log = { configurations: [{ index: 0, configuration: { voters: ['n0'], outgoing: [], learners: [], demoted: [] } }] }
  const sleeper = (id: number, leader: string): Sleeper => {
    const group: Sleeper = {
      id,
      raft: { leading: null, leader, log, options: { id: 'n0' } } as unknown as Raft,
      wake: () => rest.end(group),
      forgetLeader: () => undefined,
    }
    return group
  }
  const groups = Array.from({ length: 100 }, (_, at) => sleeper(at, `n${at % 50}`))
  for (const group of groups) rest.begin(group, 1)
  expect(rest.neighbours).toBe(50)
  rest.heard('stranger', 1)
  expect(rest.neighbours).toBe(50)
  for (const group of groups.slice(0, 50)) rest.end(group)
  expect(rest.neighbours).toBe(50)
  rest.lost('n7')
  rest.heard('n8', 2) // another life
  expect(rest.neighbours).toBe(48)
  for (const group of groups) rest.end(group)
  expect(rest.neighbours).toBe(0)
  rest.tick()
  expect(sent).toEqual([])
})
