import { MemoryServer } from '../../namespace/memory/memory-server.ts'
import { contextFor } from '../../namespace/context.ts'
import { fileServerSuite } from './file-server-suite.ts'

const owner = { name: 'owner', groups: [] }

fileServerSuite('memory', async () => {
  const server = new MemoryServer({ owner: owner.name })
  return {
    server,
    context: (principal = owner) => contextFor(principal),
    close: async () => server.close(),
  }
})
