/** The contract over a session: each transport, and one remote mounted in another. */
import { contextFor } from '../../namespace/context.ts'
import { MemoryServer } from '../../namespace/memory/memory-server.ts'
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
