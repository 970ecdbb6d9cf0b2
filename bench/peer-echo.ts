/** The other process of bench/peer.ts: answers each append with an accepted, over the transport named as its argument. Says its address. */
import { createServer as createTcp } from 'node:net'
import type { AddressInfo } from 'node:net'
import { Server, ServerCredentials } from '@grpc/grpc-js'
import type { ServerDuplexStream } from '@grpc/grpc-js'
import { Reader } from '../proto/protobuf.ts'
import { PacketWriter } from '../services/peer/codec.ts'
import { readItems } from '../services/peer/decode.ts'
import type { ItemSink } from '../services/peer/decode.ts'
import { startPeer } from '../services/peer/service.ts'
import type { Brought, PeerItem } from '../raft/driver/ports.ts'

export const echoPath = '/bench.Echo/Items'

const [transport, back] = process.argv.slice(2)

/** What a follower answers. */
export function answerOf(item: PeerItem | Brought): PeerItem | undefined {
  if (item.kind !== 'raft' || item.message.kind !== 'append') return undefined
  const { from, to, term, prevIndex, entries } = item.message
  return { kind: 'raft', group: item.group, message: { kind: 'accepted', from: to, to: from, term, match: prevIndex + entries.length } }
}

/** A stream of packets at either end, as bytes: without the service around it. */
export class Packets {
  readonly #writer = new PacketWriter()
  readonly #write: (packet: Buffer) => void
  readonly #sink: ItemSink
  readonly #reader = new Reader()
  #isDue = false
  #held: Buffer = Buffer.alloc(0)

  constructor(write: (packet: Buffer) => void, onItem: (item: PeerItem) => void) {
    this.#write = write
    const nothing = (): void => undefined
    this.#sink = { item: onItem, request: nothing, answer: nothing, failure: nothing }
  }

  send(item: PeerItem): void {
    this.#writer.item(item)
    if (this.#isDue) return
    this.#isDue = true
    setImmediate(() => {
      this.#isDue = false
      this.#write(this.#writer.take())
    })
  }

  /** Bytes of a TCP connection: messages with gRPC's prefix. */
  chunk(chunk: Buffer): void {
    let bytes = this.#held.length === 0 ? chunk : Buffer.concat([this.#held, chunk])
    while (bytes.length >= 5 && bytes.length >= 5 + bytes.readUInt32BE(1)) {
      const end = 5 + bytes.readUInt32BE(1)
      this.message(bytes, 5, end)
      bytes = bytes.subarray(end)
    }
    this.#held = bytes
  }

  message(buffer: Buffer, start: number, end: number): void {
    const reader = this.#reader.reset(buffer, start, end)
    reader.next()
    reader.enter()
    readItems(reader, 'n1.bench', 'n2.bench', this.#sink)
  }
}

function listenTcp(): void {
  const server = createTcp({ noDelay: true }, (socket) => {
    const packets: Packets = new Packets(
      (packet) => void socket.write(packet),
      (item) => {
        const answer = answerOf(item)
        if (answer !== undefined) packets.send(answer)
      },
    )
    socket.on('data', (chunk) => packets.chunk(chunk))
    socket.on('error', () => undefined)
  })
  server.listen(0, '127.0.0.1', () => console.log(`127.0.0.1:${(server.address() as AddressInfo).port}`))
}

function listenGrpc(): void {
  const server = new Server({ 'grpc.max_receive_message_length': 2 ** 24 })
  const same = (bytes: Buffer): Buffer => bytes
  const method = { path: echoPath, requestStream: true, responseStream: true } as const
  const definition = {
    Items: { ...method, requestSerialize: same, requestDeserialize: same, responseSerialize: same, responseDeserialize: same },
  }
  server.addService(definition, {
    Items: (call: ServerDuplexStream<Buffer, Buffer>) => {
      const packets: Packets = new Packets(
        (packet) => void call.write(packet.subarray(5)),
        (item) => {
          const answer = answerOf(item)
          if (answer !== undefined) packets.send(answer)
        },
      )
      call.on('data', (message: Buffer) => packets.message(message, 0, message.length))
    },
  })
  server.bindAsync('127.0.0.1:0', ServerCredentials.createInsecure(), (_error, port) => console.log(`127.0.0.1:${port}`))
}

async function listenPeer(): Promise<void> {
  const absent = (): Promise<never> => Promise.reject(new Error('not here'))
  const peer = await startPeer({
    listen: { host: '127.0.0.1', port: 0 },
    secret: 'bench',
    cluster: 'bench',
    self: 'n2.bench',
    addressOf: () => back,
    inbound: {
      receive: (from, item) => {
        const answer = answerOf(item)
        if (answer !== undefined) peer.send(from, answer)
      },
      peerLost: () => undefined,
    },
    onRequest: (_from, _group, _verb, body) => Promise.resolve(body),
    onCall: absent,
    snapshots: {
      open: absent,
      receive: () =>
        Promise.resolve({
          offset: 0,
          progress: 0,
          write: () => Promise.resolve(),
          finish: () => Promise.resolve(),
          close: () => Promise.resolve(),
        }),
    },
    chunks: { get: absent, put: absent, touch: absent },
  })
  console.log(peer.address)
}

if (transport === 'tcp') listenTcp()
else if (transport === 'grpc') listenGrpc()
else if (transport === 'peer') await listenPeer()
