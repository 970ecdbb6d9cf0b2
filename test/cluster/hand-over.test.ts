/** A node that has nothing to hand over ends at once: nothing of it keeps the process. */
import { expect, it } from 'vitest'
import { handOver } from '../../services/cluster/hand-over.ts'

it('leaves no timer behind', async () => {
  const timers = (): number => process.getActiveResourcesInfo().filter((kind) => kind === 'Timeout').length
  const before = timers()
  await handOver([])
  expect(timers()).toBe(before)
})
