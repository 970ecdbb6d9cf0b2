/** The gRPC side of the edge: unary and streaming calls, Session, reflection and health, on connections handed to it. */
import type { Duplex } from 'node:stream'
import type { Socket } from 'node:net'
import { Server, ServerCredentials } from '@grpc/grpc-js'
import type { Clock } from '../../namespace/clock.ts'
import type { FileServer } from '../../namespace/file-server.ts'
import { limits } from '../../namespace/limits.ts'
import type { Principal } from '../../namespace/rights.ts'

export interface GrpcServerOptions {
  readonly clock: Clock
  authenticate(token: string | undefined): Principal
  namespaceOf(principal: Principal): Promise<FileServer>
  readonly session: number
  /** A Session call: serve it on this stream of bytes. `token` is what its metadata carried. */
  onSession(stream: Duplex, token: string | undefined, peer: string): void
}

export class GrpcServer {
  readonly #server: Server
  readonly #connections: ReturnType<Server['createConnectionInjector']>

  constructor(_options: GrpcServerOptions) {
    this.#server = new Server({ 'grpc.max_receive_message_length': limits.frame_bytes_max * 2 })
    this.#connections = this.#server.createConnectionInjector(ServerCredentials.createInsecure())
  }

  take(socket: Socket): void {
    this.#connections.injectConnection(socket)
  }

  close(graceMs: number): Promise<void> {
    return new Promise((resolve) => {
      const cut = setTimeout(() => this.#server.forceShutdown(), graceMs)
      this.#server.tryShutdown(() => {
        clearTimeout(cut)
        resolve()
      })
      this.#connections.drain(graceMs)
    })
  }
}
