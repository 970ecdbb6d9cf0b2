// Notes on a durable store: they stay when this process goes. Anyone may also write files below /svc/notes directly.
//   node examples/notes.mjs      then: nine write /svc/notes/ctl 'add buy milk'      nine ls /svc/notes/all
import { computed, ctl, defineService, serve } from 'ninefold'

const session = await serve(
  defineService(
    'notes',
    {
      count: computed(async () => `${(await notes()).length}\n`),
      ctl: ctl({
        add: (_context, words) =>
          session.client.write(`/store/all/${Date.now()}.txt`, `${words.join(' ')}\n`, { parents: true }).then(() => undefined),
      }),
    },
    { store: true },
  ),
)

async function notes() {
  return (await session.client.exists('/store/all')) ? (await session.client.listAll('/store/all')).entries : []
}
console.log('notes serves /svc/notes')
