/** Gauges that stand together are looked up together. */
import { expect, it } from 'vitest'
import { Metrics } from '../../services/node/metrics.ts'

it('gauges of one look are read once a scrape, and are of that scrape', async () => {
  const metrics = new Metrics()
  let looks = 0
  metrics.gauges({ nine_first: 'First.', nine_second: 'Second.', nine_third: 'Third.' }, () => {
    looks++
    return { nine_first: looks, nine_second: looks + 1, nine_third: looks + 2 }
  })
  for (const scrape of [1, 2]) {
    const { text } = await metrics.text()
    expect(looks).toBe(scrape)
    const values = ['first', 'second', 'third'].map((name) => Number(new RegExp(`^nine_${name} (\\d+)$`, 'm').exec(text)![1]))
    expect(values).toEqual([scrape, scrape + 1, scrape + 2])
  }
})
