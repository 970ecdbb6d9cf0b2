/** A gRPC edge over a file server, with two principals: what the tests of the wire connect to. */
import { NineError } from '../../namespace/errors.ts'
import type { FileServer } from '../../namespace/file-server.ts'
import { connectRemote } from '../../namespace/remote/connect.ts'
import type { ConnectOptions, RemoteSession } from '../../namespace/remote/connect.ts'
import type { Principal } from '../../namespace/rights.ts'
import type { SessionControl } from '../../namespace/wire/control.ts'
import { startGrpcEdge } from '../../services/grpc/edge.ts'
import type { GrpcEdge, GrpcEdgeOptions } from '../../services/grpc/edge.ts'

export const owner: Principal = { name: 'owner', groups: [] }

export interface TestNode {
  readonly edge: GrpcEdge
  /** Errors with which connections were refused and sessions ended, oldest first. */
  readonly log: { readonly event: string; readonly error: NineError }[]
  connect(options?: Partial<ConnectOptions>): Promise<RemoteSession>
  close(): Promise<void>
}

/** A principal's token names it: `token-NAME-GROUP,GROUP`. */
export function tokenOf(principal: Principal): string {
  return `token-${principal.name}-${principal.groups.join(',')}`
}

/** `server` with some of its operations replaced. */
export function overriding(server: FileServer, changed: Partial<FileServer>): FileServer {
  return new Proxy(server, {
    get(target, name: keyof FileServer) {
      if (name in changed) return Reflect.get(changed, name) as unknown
      const own = Reflect.get(target, name) as unknown
      return typeof own === 'function' ? (own as (...args: unknown[]) => unknown).bind(target) : own
    },
  })
}

export async function startNode(
  server: FileServer,
  options: Partial<GrpcEdgeOptions> & { control?: SessionControl } = {},
): Promise<TestNode> {
  const log: TestNode['log'] = []
  let sessions = 0
  const edge = await startGrpcEdge({
    host: '127.0.0.1',
    port: 0,
    name: 'test-node',
    session: 0,
    authenticate: (token) => {
      const [word, name, groups] = (token ?? '').split('-')
      if (word === 'token' && name !== undefined) return { name, groups: groups?.split(',') ?? [] }
      throw new NineError({ kind: 'unauthenticated', op: 'test.authenticate', message: 'nobody has this token' })
    },
    openSession: () => ({ server, session: ++sessions, control: options.control }),
    namespaceOf: async () => server,
    log: (entry) => log.push(entry),
    ...options,
  })
  const clients: RemoteSession[] = []
  return {
    edge,
    log,
    connect: async (given) => {
      const client = await connectRemote({ address: edge.address, token: tokenOf(owner), ...given })
      clients.push(client)
      return client
    },
    close: async () => {
      for (const client of clients) await client.close()
      await edge.close(200)
    },
  }
}
