/** What HTTP carries passes the suite, with each exception named. */
import { contextFor } from '../../namespace/context.ts'
import { HttpFileServer } from '../http/http-file-server.ts'
import { startEdge } from '../http/start.ts'
import { fileServerSuite } from './file-server-suite.ts'
import { settledOnTheirOwn } from './settled.ts'

const noHandles = 'HTTP has no open handles: a request is whole'
const noLeases = 'HTTP grants and renews no leases: it has ?ttl, and ?lease for one that another edge granted'
const noLocks = 'HTTP has no lock request: a lock is a file made with If-None-Match: *'

fileServerSuite(
  'http',
  async () => {
    const started = await startEdge()
    const server = new HttpFileServer(started.origin, (principal) => (principal === 'owner' ? started.owner : started.guest))
    return {
      server: settledOnTheirOwn(server),
      context: (principal = { name: 'owner', groups: [] }) => contextFor(principal),
      close: () => started.close(),
    }
  },
  {
    skip: [
      { group: 'leases', why: noLeases },
      { group: 'locks', why: noLocks },
      { group: 'handles', why: noHandles },
      { group: 'atomic handles', why: noHandles },
      { group: 'shared handles', why: noHandles },
      { test: 'a handle needs the right', why: noHandles },
      { test: 'a handle of another is no handle', why: noHandles },
      { test: 'pages by bytes', why: 'HTTP has no maxBytes: pages close at the limit of the node' },
      { test: 'events tell all of a change', why: 'HTTP requests carry no cause' },
      { test: 'events carry small values', why: 'server-sent events carry the stat; the value is a GET away' },
      { test: 'what was settled is never done again', why: 'an Idempotency-Key stands for one request: there is no watermark below it' },
    ],
  },
)
