// A service that mounts three others and shows them as one tree. Its dependencies are data: the namespace file below.
//   node examples/desk.mjs       then: nine tree /svc/desk
import { defineService, mounted, serve } from 'ninefold'

const namespace = `
mount clock /clock
mount counter /counter
mount notes /notes
`
await serve(defineService('desk', { clock: mounted('/clock'), counter: mounted('/counter'), notes: mounted('/notes') }, { namespace }))
console.log('desk serves /svc/desk')
