// A service of ten lines: a computed file and a stream.
//   node examples/clock.mjs      then: nine cat /svc/clock/now      nine cat /svc/clock/ticks
import { setInterval } from 'node:timers/promises'
import { computed, defineService, serve, stream } from 'ninefold'

const now = () => `${new Date().toISOString()}\n`
await serve(
  defineService('clock', {
    now: computed(now),
    ticks: stream(async function* ({ signal }) {
      for await (const _ of setInterval(1000, undefined, { signal })) yield now()
    }),
  }),
)
console.log('clock serves /svc/clock')
