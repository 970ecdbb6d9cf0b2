/** The serving process's room for garbage. */
import { expect, it } from 'vitest'
import { growthPercent } from '../../cli/heap.ts'

const mib = 2 ** 20

it('lets a small heap grow by about 128 MiB, at most fivefold, and leaves a large one to V8', () => {
  expect(growthPercent(8 * mib)).toBe(400)
  expect(growthPercent(64 * mib)).toBe(200)
  expect(growthPercent(128 * mib)).toBe(100)
  expect(growthPercent(130 * mib)).toBe(0)
  expect(growthPercent(4096 * mib)).toBe(0)
})
