// A counter that is told what to do by lines written to its ctl file.
//   node examples/counter.mjs    then: nine write /svc/counter/ctl 'add 5'      nine cat /svc/counter/value
import { computed, ctl, defineService, serve } from 'ninefold'

let value = 0
await serve(
  defineService('counter', {
    value: computed(() => `${value}\n`),
    ctl: ctl({
      add: (_context, [amount = '1']) => void (value += Number(amount)),
      reset: () => void (value = 0),
    }),
  }),
)
console.log('counter serves /svc/counter')
