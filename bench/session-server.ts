/** The server process of session.ts: a memory tree behind the gRPC edge. Prints its address. */
import { MemoryServer } from '../namespace/memory/memory-server.ts'
import { startGrpcEdge } from '../services/grpc/edge.ts'

const memory = new MemoryServer({ owner: 'bench' })
const principal = { name: 'bench', groups: [] }
let sessions = 0
const edge = await startGrpcEdge({
  host: '127.0.0.1',
  port: 0,
  name: 'bench',
  session: 0,
  authenticate: () => principal,
  openSession: () => ({ server: memory, session: ++sessions }),
  namespaceOf: async () => memory,
})
process.stdout.write(`${edge.address}\n`)
process.on('SIGTERM', () => process.exit(0))
process.on('disconnect', () => process.exit(0))
