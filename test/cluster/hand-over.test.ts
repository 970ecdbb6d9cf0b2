/** What a node that ends hands over, and for whom it does not wait. */
import { describe, expect, it } from 'vitest'
import { handOver, type Heirs } from '../../services/cluster/hand-over.ts'
import type { GroupControl } from '../../services/cluster/ports.ts'

const never = new Promise<void>(() => undefined)
const up: Heirs = { isReachable: () => true, isStaying: () => Promise.resolve(true) }

/** Led by n1; `taken` says what becomes of a transfer. */
function group(taken: (heir: string) => Promise<void>): GroupControl & { isLeader: boolean; readonly asked: string[] } {
  const asked: string[] = []
  const peers = ['n2', 'n3'].map((id, at) => ({ id, isActive: true, state: 'replicate', match: 9 - at }))
  const led = {
    isLeader: true,
    asked,
    status: () => ({ configuration: { voters: ['n1', 'n2', 'n3'] }, peers }),
    transfer: async (heir: string) => {
      asked.push(heir)
      await taken(heir)
      led.isLeader = false
    },
  }
  return led as never
}

describe('a node that ends', () => {
  it('with nothing to hand over leaves no timer behind', async () => {
    const timers = (): number => process.getActiveResourcesInfo().filter((kind) => kind === 'Timeout').length
    const before = timers()
    await handOver([], up)
    expect(timers()).toBe(before)
  })

  it('hands over all that it leads to who is furthest, and asks that one once', async () => {
    const groups = [group(() => Promise.resolve()), group(() => Promise.resolve())]
    let asked = 0
    await handOver(groups, { ...up, isStaying: () => Promise.resolve(++asked === 1) })
    expect(groups.map((each) => each.asked)).toEqual([['n2'], ['n2']])
  })

  // Each of these would wait for a transfer that never ends, far longer than the test may take.
  it('asks nobody who cannot be reached: the last one ends at once', async () => {
    const led = group(() => never)
    await handOver([led], { ...up, isReachable: () => false })
    expect(led.asked).toEqual([])
  }, 2_000)

  it('hands nothing over to one that ends, too', async () => {
    const led = group(() => never)
    await handOver([led], { ...up, isStaying: () => Promise.resolve(false) })
    expect(led.asked).toEqual([])
  }, 2_000)

  it('goes to the next where one ends', async () => {
    const led = group(() => Promise.resolve())
    await handOver([led], { ...up, isStaying: (member) => Promise.resolve(member !== 'n2') })
    expect(led.asked).toEqual(['n3'])
  })

  it('does not wait for one that is lost while it takes over', async () => {
    const gone = new Set<string>()
    const led = group((heir) => {
      gone.add(heir)
      return never
    })
    await handOver([led], { ...up, isReachable: (member) => !gone.has(member) })
    expect(led.asked).toEqual(['n2', 'n3'])
  }, 2_000)

  it('asks one anew that could not take over', async () => {
    let tries = 0
    const led = group(() => (++tries < 3 ? Promise.reject(new Error('lost')) : Promise.resolve()))
    await handOver([led], up)
    expect(led.asked).toEqual(['n2', 'n2', 'n2'])
  })
})
