/** A namespace passes the suite: of one server, of a part of one server under another name, and as a union. */
import { MemoryServer } from '../../namespace/memory/memory-server.ts'
import { Namespace } from '../../namespace/namespace.ts'
import { parsePath } from '../../namespace/path.ts'
import { unionServer } from '../../namespace/union/union.ts'
import { fileServerSuite } from './file-server-suite.ts'
import type { OpenedServer } from './file-server-suite.ts'

const owner = { name: 'owner', groups: [] }
const contextOf: OpenedServer['context'] = (principal = owner) => ({ principal, deadline: performance.now() + 20_000 })

fileServerSuite('namespace', async () => {
  const memory = new MemoryServer({ owner: 'owner' })
  return { server: new Namespace(memory), context: contextOf, close: async () => memory.close() }
})

fileServerSuite('namespace, bound part of a server', async () => {
  const memory = new MemoryServer({ owner: 'owner' })
  await memory.mkdir(contextOf(), parsePath('/a/part'), { parents: true })
  const namespace = new Namespace()
  await namespace.mount(contextOf(), memory, parsePath('/m/n'))
  await namespace.bind(contextOf(), parsePath('/m/n/a/part'), parsePath('/other/name'))
  return { server: namespace, context: contextOf, directory: '/other/name', close: async () => memory.close() }
})

const ofOneMember =
  'a position of one member says nothing of the others: the past of a union is read at the position of a listing, or at a time'
const skip = [
  { test: 'at a position shows the past', why: ofOneMember },
  { test: 'at a position shows a tree where it was', why: ofOneMember },
  { test: 'the past is filtered', why: ofOneMember },
  { test: 'from a revision by its number', why: 'a revision is of one store, and a union has several' },
]

fileServerSuite(
  'union',
  async () => {
    const [first, second] = [new MemoryServer({ owner: 'owner' }), new MemoryServer({ owner: 'owner' })]
    await first.write(contextOf(), parsePath('/in-the-first'), new Uint8Array(1))
    // Whether an earlier member has a name is asked as the caller: he has to be allowed to know.
    await first.setRights(contextOf(), parsePath('/'), [{ who: '*', rights: ['list'] }])
    const close = async (): Promise<void> => [first, second].forEach((server) => server.close())
    return { server: unionServer([{ server: first }, { server: second, create: true }]), context: contextOf, close }
  },
  { skip },
)
