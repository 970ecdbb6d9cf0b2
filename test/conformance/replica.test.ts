/** A store of three nodes passes the suite, asked at its leader and asked at a node that follows, without an exception. */
import { startCluster } from '../replica/cluster.ts'
import { fileServerSuite } from './file-server-suite.ts'

for (const asked of ['leader', 'follower'] as const) {
  fileServerSuite(`store of three nodes, at a ${asked}`, async () => {
    const cluster = await startCluster()
    const leader = await cluster.leader()
    const node = asked === 'leader' ? leader : [...cluster.nodes.values()].find(({ id }) => id !== leader.id)!
    return {
      server: node.store,
      context: (principal = { name: 'glenda', groups: [] }) => ({ principal, deadline: performance.now() + 20_000 }),
      close: () => cluster.close(),
    }
  })
}
