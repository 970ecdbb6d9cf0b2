/**
 * A connection to another node, up to the end of the hello.
 *
 * Without TLS only loopback is dialled. The listener's proof is checked before anything but the hello is said.
 */
import { randomBytes } from 'node:crypto'
import { connect as connectHttp2 } from 'node:http2'
import type { ClientHttp2Session } from 'node:http2'
import { connect as connectTcp } from 'node:net'
import type { Socket } from 'node:net'
import { checkServerIdentity as checkIdentity, connect as connectTls } from 'node:tls'
import type { PeerCertificate } from 'node:tls'
import { NineError } from '../../namespace/errors.ts'
import type { ErrorKind } from '../../namespace/errors.ts'
import { parseAddress } from '../../namespace/remote/dial.ts'
import { connectionReason } from '../../namespace/remote/tls-reason.ts'
import type { NodeId } from '../../raft/model.ts'
import { isLoopback } from '../node/address.ts'
import { callHeaders, GrpcStream, grpcStatus, withPrefix } from './grpc-stream.ts'
import { decodeOpening, decodeWelcome, encodeHello, encodeOpening, isProof, nonce_bytes, proofOf, versionRefusal } from './hello.ts'
import type { Welcome } from './hello.ts'
import { callPath, http2Settings, peerAuthority, sessionMemory, windowBytes } from './own.ts'
import type { CallKind, Own } from './own.ts'

export interface DialEvents {
  /** The hello is over; requests and items may go. */
  opened(welcome: Welcome): void
  /** A message after that. */
  packet(buffer: Buffer, start: number, end: number): void
  /** Once, whatever ended it. `isNobody`: nobody listens there. */
  ended(error: NineError, isNobody: boolean): void
}

const handshake_bytes_max = 16 * 1024

export class Dial {
  readonly #own: Own
  readonly #address: string
  readonly #to: NodeId
  readonly #path: string
  readonly #events: DialEvents
  readonly #timer: NodeJS.Timeout
  #socket: Socket | undefined
  #session: ClientHttp2Session | undefined
  #stream: GrpcStream | undefined
  #hello: Buffer = Buffer.alloc(0)
  #isOpen = false
  #isEnded = false

  /** Begins at once; `ended` is never called within the call. */
  constructor(own: Own, address: string, to: NodeId, kind: CallKind, events: DialEvents) {
    this.#own = own
    this.#address = address
    this.#to = to
    this.#path = callPath[kind]
    this.#events = events
    this.#timer = setTimeout(() => this.#fail('unavailable', 'no answer in time'), own.limits.peer_dial_ms)
    try {
      this.#connect()
    } catch (error) {
      process.nextTick(() => this.end(error instanceof NineError ? error : this.#error('unavailable', String(error), error)))
    }
  }

  get stream(): GrpcStream {
    return this.#stream!
  }

  /** Bytes that came so far: whether it still lives. */
  get bytesRead(): number {
    return this.#socket?.bytesRead ?? 0
  }

  /** Ask for a sign of life. */
  ping(): void {
    if (this.#session?.destroyed === false) this.#session.ping(() => undefined)
  }

  /** Close it, for this reason. */
  end(error: NineError, isNobody = false): void {
    if (this.#isEnded) return
    this.#isEnded = true
    clearTimeout(this.#timer)
    this.#stream?.end(grpcStatus.cancelled, error.message)
    this.#session?.destroy()
    this.#socket?.destroy()
    this.#events.ended(error, isNobody)
  }

  #connect(): void {
    const agreed = parseAddress(this.#address).host
    const { tls, via } = this.#own
    const { host, port } = parseAddress(via.get(this.#address) ?? this.#address)
    if (tls === undefined && !isLoopback(host)) {
      throw this.#error('invalid', 'beyond loopback peers speak TLS only')
    }
    const socket = tls === undefined ? connectTcp({ host, port, noDelay: true }) : tlsSocket(host, port, agreed, tls)
    this.#socket = socket
    socket.on('error', (error: NodeJS.ErrnoException) => {
      this.end(this.#error('unavailable', connectionReason(error, peerAuthority), error), error.code === 'ECONNREFUSED')
    })
    socket.on('close', () => this.#fail('unavailable', 'the connection broke'))
    socket.once(tls === undefined ? 'connect' : 'secureConnect', () => this.#connected(socket))
  }

  #connected(socket: Socket): void {
    if (this.#isEnded) return
    socket.setNoDelay(true)
    const isTls = this.#own.tls !== undefined
    const session = connectHttp2(`${isTls ? 'https' : 'http'}://${this.#address}`, {
      createConnection: () => socket,
      settings: http2Settings,
      maxSessionMemory: sessionMemory,
    })
    this.#session = session
    session.on('error', (error: Error) => this.end(this.#error('unavailable', connectionReason(error, peerAuthority), error)))
    session.on('close', () => this.#fail('unavailable', 'the connection broke'))
    session.on('goaway', () => this.#fail('unavailable', 'the peer closes the connection'))
    session.on('connect', () => session.setLocalWindowSize(2 * windowBytes))
    const call = session.request(callHeaders(this.#path, isTls, this.#address), { endStream: false })
    const stream = new GrpcStream(
      call,
      {
        message: (buffer, start, end) => (this.#isOpen ? this.#events.packet(buffer, start, end) : this.#welcomed(buffer, start, end)),
        ended: (code, message) => this.#fail(kindOf(code), message),
      },
      handshake_bytes_max,
    )
    this.#stream = stream
    const { member, cluster, address, versions, features } = this.#own
    const nonce = randomBytes(nonce_bytes)
    this.#hello = encodeHello({ versions, features, cluster, from: member, to: this.#to, address, nonce })
    stream.write(withPrefix(encodeOpening({ hello: this.#hello })))
  }

  #welcomed(buffer: Buffer, start: number, end: number): void {
    const { secret, member, versions, limits } = this.#own
    const opening = decodeOpening(buffer, start, end)
    if (opening.welcome === undefined) return this.#fail('denied', 'the answer to the hello is no welcome')
    const welcome = decodeWelcome(opening.welcome)
    if (secret !== undefined && !isProof(opening.proof, proofOf(secret, 'listener', this.#path, this.#hello, opening.welcome))) {
      return this.#fail('unauthenticated', `${welcome.member} does not know the secret of this cluster`)
    }
    const spoken = { from: welcome.member, versions: { min: welcome.version, max: welcome.version } }
    const refusal = versionRefusal(spoken, { member, versions }) ?? this.#identityRefusal(welcome)
    if (refusal !== undefined) return this.#fail('denied', refusal)
    const proof = secret === undefined ? undefined : proofOf(secret, 'dialler', this.#path, this.#hello, opening.welcome)
    this.stream.write(withPrefix(encodeOpening({ proof: proof ?? Buffer.alloc(0) })))
    this.stream.messageBytesMax = limits.peer_message_bytes_max
    this.#isOpen = true
    clearTimeout(this.#timer)
    this.#events.opened(welcome)
  }

  /** The listener looks at this too; it may be another one than was meant to hear the hello. */
  #identityRefusal({ member, cluster }: Welcome): string | undefined {
    if (this.#to === '') return undefined
    if (member !== this.#to) return `${member} answered where ${this.#to} was dialled`
    return cluster === this.#own.cluster ? undefined : `${member} is of cluster ${cluster}, ${this.#own.member} of ${this.#own.cluster}`
  }

  #fail(kind: ErrorKind, message: string): void {
    if (!this.#isEnded) this.end(this.#error(kind, message))
  }

  #error(kind: ErrorKind, message: string, cause?: unknown): NineError {
    const whom = this.#to === '' ? this.#address : `${this.#to} at ${this.#address}`
    return new NineError({ kind, op: 'peer.connect', message: `peer ${whom}: ${message}`, cause })
  }
}

/** @param name what the certificate is to be of, however the peer is reached */
function tlsSocket(host: string, port: number, name: string, tls: NonNullable<Own['tls']>): Socket {
  const { ca, cert, key, serverName = name } = tls
  const servername = serverName.includes(':') || /^[\d.]+$/.test(serverName) ? undefined : serverName
  const checkServerIdentity = (_host: string, certificate: PeerCertificate): Error | undefined => checkIdentity(serverName, certificate)
  return connectTls({ host, port, ca, cert, key, servername, checkServerIdentity, ALPNProtocols: ['h2'], minVersion: 'TLSv1.2' })
}

function kindOf(code: number): ErrorKind {
  if (code === grpcStatus.precondition) return 'denied'
  if (code === grpcStatus.unauthenticated) return 'unauthenticated'
  if (code === grpcStatus.exhausted) return 'overloaded'
  if (code === grpcStatus.unimplemented) return 'unsupported'
  return 'unavailable'
}
