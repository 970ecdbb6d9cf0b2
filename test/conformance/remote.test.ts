/** The contract over a session: each transport, and one remote mounted in another. */
import { contextFor } from '../../namespace/context.ts'
import { MemoryServer } from '../../namespace/memory/memory-server.ts'
import { Namespace } from '../../namespace/namespace.ts'
import { parsePath } from '../../namespace/path.ts'
import { owner, startNode, tokenOf } from '../grpc/node.ts'
import { fileServerSuite } from './file-server-suite.ts'

for (const transport of ['tcp', 'grpc'] as const) {
  fileServerSuite(`remote over ${transport}`, async () => {
    const memory = new MemoryServer({ owner: owner.name })
    const node = await startNode(memory)
    const { server } = await node.connect({ transport })
    return {
      server,
      context: (principal = owner) => contextFor(principal),
      serverFor: async (principal) => (await node.connect({ transport, token: tokenOf(principal) })).server,
      close: async () => {
        await node.close()
        memory.close()
      },
    }
  })
}

fileServerSuite('remote mounted in remote', async () => {
  const memory = new MemoryServer({ owner: owner.name })
  const far = await startNode(memory)
  let sessions = 0
  const near = await startNode(memory, {
    openSession: async (principal) => {
      const remote = await far.connect({ token: tokenOf(principal) })
      const namespace = new Namespace()
      await namespace.mount(contextFor(principal), remote.server, parsePath('/far'))
      return { server: namespace, session: ++sessions, close: () => void remote.close() }
    },
  })
  const { server } = await near.connect()
  return {
    server,
    directory: '/far',
    context: (principal = owner) => contextFor(principal),
    serverFor: async (principal) => (await near.connect({ token: tokenOf(principal) })).server,
    close: async () => {
      await near.close()
      await far.close()
      memory.close()
    },
  }
})
