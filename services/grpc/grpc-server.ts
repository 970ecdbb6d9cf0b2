/** The gRPC side of the edge: unary and streaming calls, Session, reflection and health, on connections handed to it. */
import { existsSync } from 'node:fs'
import type { Socket } from 'node:net'
import { dirname, join } from 'node:path'
import type { Duplex } from 'node:stream'
import { Metadata, Server, ServerCredentials, status } from '@grpc/grpc-js'
import type {
  sendUnaryData,
  ServerDuplexStream,
  ServerReadableStream,
  ServerWritableStream,
  UntypedServiceImplementation,
} from '@grpc/grpc-js'
import { loadSync } from '@grpc/proto-loader'
import { ReflectionService } from '@grpc/reflection'
import { HealthImplementation } from 'grpc-health-check'
import { limits } from '../../namespace/limits.ts'
import { CallStream } from '../../namespace/remote/call-stream.ts'
import { decodeFrames, encodeFrames } from '../../namespace/wire/frames-message.ts'
import { rawMethod, statusOf, tokenOf, unaryMethods } from './calls.ts'
import type { CallOptions } from './calls.ts'
import { readStreamCall, watchCall, writeStreamCall } from './streams.ts'

export interface GrpcServerOptions extends CallOptions {
  /** A Session call: serve it on this stream of bytes. `token` is what its metadata carried. */
  onSession(stream: Duplex, token: string | undefined, peer: string): void
}

export class GrpcServer {
  readonly #server: Server
  readonly #connections: ReturnType<Server['createConnectionInjector']>
  readonly #health = new HealthImplementation({ '': 'SERVING', 'nine.v1.Namespace': 'SERVING' })

  constructor(options: GrpcServerOptions) {
    this.#server = new Server({
      'grpc.max_receive_message_length': limits.frame_bytes_max * 2,
      'grpc.max_send_message_length': limits.frame_bytes_max * 2,
      'grpc.keepalive_time_ms': limits.session_ping_ms,
      'grpc.keepalive_timeout_ms': limits.session_silent_ms_max - limits.session_ping_ms,
      'grpc.max_concurrent_streams': limits.session_requests_max,
    })
    addNamespace(this.#server, options)
    this.#health.addToServer(this.#server)
    const descriptions = loadSync('nine/v1/namespace.proto', { includeDirs: [protoFolder(import.meta.dirname)] })
    new ReflectionService(descriptions).addToServer(this.#server)
    this.#connections = this.#server.createConnectionInjector(ServerCredentials.createInsecure())
  }

  /** Serve an HTTP/2 connection, encrypted or not by whoever accepted it. */
  take(socket: Socket): void {
    this.#connections.injectConnection(socket)
  }

  close(graceMs: number): Promise<void> {
    for (const name of ['', 'nine.v1.Namespace']) this.#health.setStatus(name, 'NOT_SERVING')
    return new Promise((resolve) => {
      const cut = setTimeout(() => this.#server.forceShutdown(), graceMs)
      this.#connections.drain(graceMs)
      this.#server.tryShutdown(() => {
        clearTimeout(cut)
        resolve()
      })
    })
  }
}

function addNamespace(server: Server, options: GrpcServerOptions): void {
  const definition: Record<string, ReturnType<typeof rawMethod>> = {}
  const handlers: UntypedServiceImplementation = {}
  for (const { name, method, handler } of unaryMethods(options)) {
    definition[name] = method
    handlers[name] = handler
  }
  definition.Watch = rawMethod('Watch', false, true)
  handlers.Watch = (call: ServerWritableStream<Buffer, Buffer>): void => void watchCall(options, call)
  definition.ReadStream = rawMethod('ReadStream', false, true)
  handlers.ReadStream = (call: ServerWritableStream<Buffer, Buffer>): void => void readStreamCall(options, call)
  definition.WriteStream = rawMethod('WriteStream', true, false)
  handlers.WriteStream = (call: ServerReadableStream<Buffer, Buffer>, answer: sendUnaryData<Buffer>): void =>
    void writeStreamCall(options, call, answer)
  definition.Session = { ...rawMethod('Session', true, true), requestDeserialize: decodeFrames, responseSerialize: encodeFrames }
  handlers.Session = (call: ServerDuplexStream<Buffer, Buffer>): void => session(options, call)
  server.addService(definition, handlers)
}

function session(options: GrpcServerOptions, call: ServerDuplexStream<Buffer, Buffer>): void {
  const token = tokenOf(call.metadata)
  try {
    // Without metadata the token comes with the hello.
    if (token !== undefined) options.authenticate(token)
  } catch (error) {
    call.emit('error', statusOf(error))
    return
  }
  const cancel = (): void => {
    if (call.writableEnded || call.cancelled) return
    call.emit('error', { code: status.UNAVAILABLE, details: 'the session has ended', metadata: new Metadata() })
  }
  options.onSession(new CallStream(call as unknown as Duplex, cancel), token, call.getPeer())
}

/** The folder of the .proto files, from the sources or from the compiled package. */
function protoFolder(from: string): string {
  const folder = join(from, 'proto')
  if (existsSync(join(folder, 'nine', 'v1', 'namespace.proto'))) return folder
  if (dirname(from) === from) throw new Error('the .proto files of the package are missing')
  return protoFolder(dirname(from))
}
