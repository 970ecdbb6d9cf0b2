/** A history that was kept (lines of JSON), looked at again: `NINE_HISTORY=FILE npx vitest run test/linearizability/saved.test.ts`. */
import { expect, it } from 'vitest'
import { check } from './check.ts'
import { loadHistory } from './history.ts'

const file = process.env['NINE_HISTORY']

it.skipIf(file === undefined)('a saved history', () => {
  const { verdict, problems } = check(loadHistory(file!))
  console.log(`${verdict}\n${problems.join('\n\n')}`)
  expect(verdict).toBe('ok')
})
