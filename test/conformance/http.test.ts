/** What HTTP carries passes the suite, with each exception named. */
import { contextFor } from '../../namespace/context.ts'
import { HttpFileServer } from '../http/http-file-server.ts'
import { startEdge } from '../http/start.ts'
import { fileServerSuite } from './file-server-suite.ts'

fileServerSuite('http', async () => {
  const started = await startEdge()
  const server = new HttpFileServer(started.origin, (principal) => (principal === 'owner' ? started.owner : started.guest))
  return {
    server,
    context: (principal = { name: 'owner', groups: [] }) => contextFor(principal),
    close: () => started.close(),
  }
})
